"""Bodies that a web server packed for the way, though it was not asked to."""

import urllib.parse
import zlib
from collections.abc import Iterator
from typing import Any

from blocks.data.storage.retries import FetchError, Passing

ZLIB = ("gzip", "x-gzip", "deflate")
PACKED_FILES = (".gz", ".tgz")  # Apache says gzip of these, and the file is meant as it is
AT_ONCE = 1 << 22  # bytes: what a few may become must not fill the memory
EITHER = zlib.MAX_WBITS | 32  # gzip's or zlib's header


def encoding_of(url: str, headers: Any) -> str:
    """In what a body comes, "" as it is. Raises FetchError for what nobody here unpacks."""
    name = headers.get("Content-Encoding", "").strip().lower()
    if name in ("", "identity") or urllib.parse.urlsplit(url).path.endswith(PACKED_FILES):
        return ""
    if name not in ZLIB:
        raise FetchError(
            f"{url} comes in Content-Encoding {name}, which was not asked for; have the server send it as it is, or in "
            "gzip"
        )
    return name


class Unpacking:
    """Pieces of a body -> pieces of the file; none of them is large. Raises Passing for a body that is damaged."""

    def __init__(self, encoding: str):
        self.encoding = encoding
        self._inflate = zlib.decompressobj(EITHER)

    def __call__(self, data: bytes) -> Iterator[bytes]:
        if not self.encoding:
            yield data
            return
        while data:
            if self._inflate.eof:  # one more of several, one after another
                self._inflate = zlib.decompressobj(EITHER)
            try:
                yield self._inflate.decompress(data, AT_ONCE)
            except zlib.error as error:
                raise Passing(f"its {self.encoding} encoding is damaged: {error}") from None
            data = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail

    def finish(self) -> None:
        """Raises Passing where the end is missing."""
        if self.encoding and not self._inflate.eof:
            raise Passing(f"cut within its {self.encoding} encoding")
