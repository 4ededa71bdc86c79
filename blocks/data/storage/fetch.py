"""A file from anywhere, whole and checked, or an error that says why not."""

import hashlib
import io
from typing import Any

from blocks.data.storage.filesystem import FilesystemSource
from blocks.data.storage.http import HttpSource
from blocks.data.storage.part import Part
from blocks.data.storage.pipe import PipeSource
from blocks.data.storage.retries import Passing, Retries
from blocks.data.storage.source import Source, Version

ANY = Version()


def is_remote(name: str) -> bool:
    """Whether a name is a URL or a command and not a path."""
    return "://" in name or is_pipe(name)


def is_pipe(name: str) -> bool:
    return name.startswith("pipe:")


def is_http(name: str) -> bool:
    return name.startswith(("http://", "https://"))


def fetch(name: str, part: Part, retries: Retries, expected: Version = ANY, sha256: str | None = None) -> None:
    """Fill a part with the file of this name. Raises FetchError when it stays unreachable, or is another one."""
    source = _source(name, retries, expected)

    def attempt() -> None:
        source.append(part)
        _check(part, expected, sha256)

    retries.run(name, attempt, lambda: part.size)
    part.finish()


def read(name: str, retries: Retries) -> bytes:
    """The bytes of a small file."""
    memory = io.BytesIO()
    fetch(name, Part(memory), retries)
    return memory.getvalue()


def version(name: str, retries: Retries) -> Version:
    """Which version of a file lies there now; of a pipe nothing is known."""
    return retries.run(name, _source(name, retries, ANY).version)


def is_file(url: str, retries: Retries) -> bool:
    """Whether a web server gives a file for this URL, and not a page or nothing."""
    return retries.run(url, HttpSource(url, retries.timeout, ANY).is_file)


def _source(name: str, retries: Retries, expected: Version) -> Source:
    kind: Any = PipeSource if is_pipe(name) else HttpSource if is_http(name) else FilesystemSource
    return kind(name, retries.timeout, expected)


def _check(part: Part, expected: Version, sha256: str | None) -> None:
    """What has arrived, against what was announced; nothing of it is kept when it differs."""
    try:
        expected.check(Version(part.size))
        if sha256 is not None:
            part.finish()
            part.file.seek(0)
            found = hashlib.file_digest(part.file, "sha256").hexdigest()  # type: ignore[arg-type]
            if found != sha256:
                raise Passing(f"its sha256 is {found[:12]}... where {sha256[:12]}... is due")
    except Passing:
        part.restart()
        raise
