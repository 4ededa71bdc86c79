"""Where a shard is: a path, a URL or a pipe; and the folder whose index may list it."""

import os
import urllib.parse

import attrs

from blocks.data.storage.fetch import is_http, is_pipe, is_remote


@attrs.frozen
class Place:
    """A shard's full name, the folder whose index would list it, and its name there."""

    name: str
    folder: str
    base: str


def place_of(name: str) -> Place:
    """A shard that was named itself: the index is looked for beside it."""
    if is_pipe(name):
        return Place(name, "pipe:", name)
    if not is_remote(name):
        return Place(name, *os.path.split(name))
    url = urllib.parse.urlsplit(name) if is_http(name) else None
    head, _, base = (url.path if url else name).rpartition("/")
    folder = url._replace(path=f"{head}/").geturl() if url else f"{head}/"
    return Place(name, folder, urllib.parse.unquote(base) if url else base)


def place_in(folder: str, base: str) -> Place:
    """A shard that the index of this folder lists."""
    return Place(join(folder, base), folder, base)


def resolved(name: str) -> str:
    """What two names of one shard have in common: a path without links, a URL or a pipe as it is."""
    return name if is_remote(name) else os.path.realpath(name)


def join(folder: str, base: str) -> str:
    """A file's name in a folder; a URL keeps its query, which may be what lets one in."""
    if not is_remote(folder):
        return os.path.join(folder, base)
    if not is_http(folder):
        return f"{folder.rstrip('/')}/{base}"
    url = urllib.parse.urlsplit(folder)
    return url._replace(path=f"{url.path.rstrip('/')}/{urllib.parse.quote(base)}").geturl()
