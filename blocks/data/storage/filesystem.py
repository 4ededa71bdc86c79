"""Files of an object store, and whatever else fsspec opens: s3://, gs://, hf://, memory:// ..."""

import math
from collections.abc import Callable
from typing import Any

from blocks.data.storage.part import Part
from blocks.data.storage.retries import FetchError, NotAllowed, NotThere, Passing
from blocks.data.storage.source import LEAST, Version, within

PIECE = 1 << 23  # bytes of a request
LESS = 8  # times, after one that took too long: in few attempts it is what the slowest line moves within a timeout
MARKS = ("ETag", "etag", "md5Hash", "blob_id", "LastModified", "last_modified", "mtime", "updated", "created")


class _Late(Passing):
    """No answer in time: of a line that gives nothing, or that is too slow for the piece."""


class FilesystemSource:
    """A file of an fsspec filesystem, read in pieces, smaller ones on a slow line; those that have arrived are kept."""

    def __init__(self, url: str, timeout: float, expected: Version):
        self.url, self.timeout, self.expected = url, timeout, expected
        self._first = Version()
        self._piece = PIECE

    def version(self) -> Version:
        fs, path = filesystem(self.url)
        info = self._ask(lambda: fs.info(path))
        mark = next((str(info[key]) for key in MARKS if info.get(key)), None)
        return Version(info.get("size"), mark)

    def append(self, part: Part) -> None:
        fs, path = filesystem(self.url)
        found = self.version()
        self.expected.check(found)
        if found != self._first:
            part.restart()
        self._first = found
        if found.bytes is None:
            raise FetchError(f"{self.url}: its file system does not tell how long it is; copy it to a folder first")
        part.expect(found.bytes)
        while part.size < found.bytes:
            size = min(self._piece, found.bytes - part.size)
            piece = self._read(fs, path, part.size, size)
            if len(piece) != size:
                raise Passing(f"cut after {part.size + len(piece)} of {found.bytes} bytes")
            part.write(piece)

    def _read(self, fs: Any, path: str, start: int, size: int) -> bytes:
        try:
            return self._ask(lambda: fs.cat_file(path, start=start, end=start + size))
        except _Late:
            self._piece = max(size // LESS, math.ceil(LEAST * self.timeout))
            raise

    def _ask(self, call: Callable[[], Any]) -> Any:
        return ask(self.url, call, self.timeout)


def filesystem(url: str) -> tuple[Any, str]:
    """(fsspec's file system of a URL, the path in it). Raises ValueError that names a package that is missing."""
    from fsspec.core import url_to_fs  # late: a run on local shards does without

    try:
        return url_to_fs(url)
    except ImportError as error:
        raise ValueError(f"{url}: {_one_line(error)}; its package is not installed here") from None
    except ValueError as error:
        raise ValueError(
            f"{url}: {_one_line(error)}; known are paths, http(s)://, pipe:COMMAND and what fsspec opens"
        ) from None


def ask(url: str, call: Callable[[], Any], timeout: float) -> Any:
    """call() within `timeout` seconds, its errors as ours. Many file systems have ten types of their own."""
    try:
        return within(timeout, call)
    except FileNotFoundError:
        raise NotThere(f"{url}: not found; check the URL") from None
    except PermissionError as error:
        raise NotAllowed(f"{url}: {_one_line(error)}; check the URL and what it takes to be let in") from None
    except ImportError as error:
        raise FetchError(f"{url}: {_one_line(error)}") from None
    except TimeoutError:
        raise _Late(f"no answer in {timeout:g} s") from None
    except Exception as error:
        raise Passing(f"{type(error).__name__}: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
