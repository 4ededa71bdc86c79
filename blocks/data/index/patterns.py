"""What a user writes for shards: braces, wildcards, folders, URLs, pipes; and the shards that are meant."""

import glob
import os
import urllib.parse
from collections.abc import Iterable

from braceexpand import braceexpand
from webdataset.shardlists import expand_urls

from blocks.data.index.files import IndexFiles
from blocks.data.index.pictures import has_images
from blocks.data.index.places import Place, join, place_in, place_of
from blocks.data.index.which_split import chosen, is_of, refuse_several, refuse_split
from blocks.data.storage.fetch import is_file, is_http, is_pipe, is_remote
from blocks.data.storage.filesystem import ask, filesystem
from blocks.data.storage.retries import Retries

SUFFIXES = (".tar", ".tar.gz", ".tgz")


def expand(pattern: str, split: str | None, files: IndexFiles) -> list[Place]:
    """The shards of a pattern, a file, a folder, a URL or a pipe. Raises FileNotFoundError where there is none."""
    pattern = pattern.removeprefix("file://")
    if is_remote(pattern):
        return [place for name in _brace(pattern) for place in _remote(name, split, files)]
    pattern = os.path.expanduser(pattern)
    if os.path.isdir(pattern):
        return _in_folder(pattern, split, files)
    refuse_split(pattern, split)
    if os.path.isfile(pattern):
        return [place_of(pattern)]
    return [place_of(name) for part in expand_urls(pattern) if part for name in _glob(part)]


def names_folder(pattern: str, retries: Retries = Retries()) -> bool:  # noqa: B008  frozen
    """Whether it is a folder; a URL is taken for one if it ends in a slash or its last part has no dot.

    An object store is asked where the dot may be one of a folder's name. Raises FetchError where it does not answer.
    """
    if not is_remote(pattern):
        return os.path.isdir(os.path.expanduser(pattern.removeprefix("file://")))
    if is_pipe(pattern):
        return False
    last = _path(pattern).rpartition("/")[2]
    if pattern.endswith("/") or not set(last) & set(".*?["):
        return True
    if is_http(pattern) or last.endswith(SUFFIXES) or set(last) & set("*?[{"):
        return False
    fs, path = filesystem(pattern)
    return retries.run(pattern, lambda: ask(pattern, lambda: fs.isdir(path), retries.timeout))


def _path(url: str) -> str:
    return urllib.parse.urlsplit(url).path if is_http(url) else filesystem(url)[1]


def _glob(pattern: str) -> list[str]:
    """A file's own name; of a pattern all files that it fits, its folder taken as it is written where that exists."""
    folder, name = os.path.split(pattern)
    if not glob.has_magic(pattern) or os.path.exists(pattern):
        return [pattern]
    found = sorted(glob.glob(os.path.join(glob.escape(folder) if os.path.isdir(folder) else folder, name)))
    if not found:
        raise FileNotFoundError(f"no shard matches {pattern}")
    return found


def _brace(pattern: str) -> Iterable[str]:
    """'a::b' is both, as in webdataset, where both are URLs; an IPv6 address is one."""
    parts = pattern.split("::")
    together = is_pipe(pattern) or not all(map(is_remote, parts))
    return (name for part in ([pattern] if together else parts) for name in braceexpand(part))


def _remote(name: str, split: str | None, files: IndexFiles) -> list[Place]:
    if names_folder(name, files.retries) and not _is_file(name, files):
        return _in_folder(name, split, files)
    refuse_split(name, split)
    path = "" if is_pipe(name) else _path(name)
    if is_http(name):
        if "*" in path:
            raise ValueError(
                f"{name}: a web server does not list its files; name them: train-{{000000..000146}}.tar, "
                "or give the URL of a folder that has an index.json"
            )
        return [place_of(name)]
    return [place_of(url) for url in _remote_glob(name, files)] if glob.has_magic(path) else [place_of(name)]


def _is_file(url: str, files: IndexFiles) -> bool:
    """Whether a URL without a dot at its end, https://host/files/123, is a file and no folder after all."""
    ends_in_a_name = is_http(url) and _path(url).rpartition("/")[2]
    return bool(ends_in_a_name) and files.at(url) is None and is_file(url, files.retries)


def _remote_glob(pattern: str, files: IndexFiles) -> list[str]:
    fs, path = filesystem(pattern)
    found = files.retries.run(pattern, lambda: ask(pattern, lambda: fs.glob(path), files.retries.timeout))
    if not found:
        raise FileNotFoundError(f"no shard matches {pattern}")
    return sorted(map(fs.unstrip_protocol, found))


def _in_folder(folder: str, split: str | None, files: IndexFiles) -> list[Place]:
    index = files.at(folder)
    if index is not None:
        return [place_in(folder, entry.name) for entry in index.splits[chosen(index, folder, split)].shards]
    found = sorted(name for name in _listed(folder, files) if name.endswith(SUFFIXES) and not name.startswith("."))
    found = [name for name in found if split is None or is_of(name, split)]
    if not found and not is_remote(folder) and has_images(folder):
        raise FileNotFoundError(
            f"{folder} holds images and no shards; make shards of them first, and name those: "
            f"python -m blocks.data.shards {folder} shards/"
        )
    if not found:
        raise FileNotFoundError(f"{folder} holds no shards ({', '.join(SUFFIXES)})" + (f" of {split}" if split else ""))
    if split is None:
        refuse_several(folder, found)
    return [place_of(join(folder, name)) for name in found]


def _listed(folder: str, files: IndexFiles) -> list[str]:
    if not is_remote(folder):
        return os.listdir(folder)
    if is_http(folder):
        raise FileNotFoundError(
            f"{folder} has no index.json or _info.json to be read, and a web server does not list its files; "
            f"name the shards: {join(folder, 'train-')}{{000000..000146}}.tar"
        )
    fs, path = filesystem(folder)
    found = files.retries.run(folder, lambda: ask(folder, lambda: fs.ls(path, detail=False), files.retries.timeout))
    return [name.rstrip("/").rpartition("/")[2] for name in found]
