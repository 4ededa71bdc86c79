"""Files from a web server, with the standard library."""

import email.utils
import functools
import http.client
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from blocks.data.storage.encoding import Unpacking, encoding_of
from blocks.data.storage.login import Redirects, login
from blocks.data.storage.part import Part
from blocks.data.storage.retries import FetchError, NotAllowed, NotThere, Passing
from blocks.data.storage.source import READ, Pace, Version, within

AGENT = {"User-Agent": "vitmason"}
URL_CHARACTERS = "%!#$&'()*+,/:;=?@[]~"  # those that stay as they are, RFC 3986; blanks and letters beyond ASCII do not
PAGES = ("text/html", "text/xml", "application/xml", "application/json")  # of a folder, a login, a record
LATER = (408, 425, 429)  # and all from 500
BEYOND = 416  # the server's file ends before the range starts


class _Beyond(Passing):
    """The file became shorter than what has arrived of it."""


class HttpSource:
    """A URL. What has arrived is kept when the connection is cut, and the rest asked for where the server can."""

    def __init__(self, url: str, timeout: float, expected: Version):
        self.url, self.timeout, self.expected = url, timeout, expected
        self._first = Version()  # of this file, as the first attempt saw it
        self._encoding = ""

    def version(self) -> Version:
        """Asks for one byte: unlike HEAD, every server answers that, also to a URL signed for GET."""
        with self._open({"Range": "bytes=0-0"}) as response:
            return _version(response, encoding_of(self.url, response.headers))

    def is_file(self) -> bool:
        """Whether it is there, may be read, and is no page."""
        try:
            with self._open({"Range": "bytes=0-0"}) as response:
                return response.headers.get_content_type() not in PAGES
        except (NotThere, NotAllowed):
            return False

    def append(self, part: Part) -> None:
        with self._ask_for_rest(part) as response:
            self._encoding = encoding_of(self.url, response.headers)
            found = _version(response, self._encoding)
            self.expected.check(found)
            if not self._continues(response, found, part):
                part.restart()
            self._first = found
            part.expect(found.bytes)
            self._copy(response, part)
        if found.bytes is not None and part.size != found.bytes:
            raise Passing(f"cut after {part.size} of {found.bytes} bytes")

    def _ask_for_rest(self, part: Part) -> Any:
        try:
            return self._open(self._range(part))
        except _Beyond:
            part.restart()
            raise

    def _range(self, part: Part) -> dict[str, str]:
        if not part.size or self._encoding:  # a range would be one of the packed bytes
            return {}
        mark = self._first.mark
        only_if = {"If-Range": mark} if mark and not mark.startswith("W/") else {}
        return {"Range": f"bytes={part.size}-", **only_if}

    def _continues(self, response: http.client.HTTPResponse, found: Version, part: Part) -> bool:
        start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if response.status != http.client.PARTIAL_CONTENT:
            return False
        if start is None or int(start[1]) != part.size or found != self._first:
            part.restart()
            raise Passing(f"another part of it came than the one from byte {part.size}")
        return True

    def _copy(self, response: http.client.HTTPResponse, part: Part) -> None:
        pace, unpacking = Pace(self.timeout), Unpacking(self._encoding)
        while data := self._read(response, part):
            for piece in unpacking(data):
                part.write(piece)
            pace.moved(len(data))
        unpacking.finish()

    def _read(self, response: http.client.HTTPResponse, part: Part) -> bytes:
        try:
            return response.read1(READ)
        except TimeoutError:
            raise Passing(f"no byte in {self.timeout:g} s, after {part.size}") from None
        except (OSError, http.client.HTTPException) as error:
            raise Passing(f"cut after {part.size} bytes: {_told(error)}") from None

    def _open(self, headers: dict[str, str]) -> Any:
        """The answer up to its body. Looking up a name has no timeout of its own, nor has the whole of a head."""
        url, credentials = login(self.url)
        request = urllib.request.Request(urllib.parse.quote(url, URL_CHARACTERS), headers={**AGENT, **headers})
        for name, value in credentials.items():
            request.add_unredirected_header(name, value)
        try:
            return within(self.timeout, lambda: _opener().open(request, timeout=self.timeout))
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error) from None
        except urllib.error.URLError as error:
            raise self._unreachable(error.reason) from None
        except http.client.InvalidURL:
            raise FetchError(
                f"{self.url} is no address; what is special in a user's name or password is written as %2F for /, %40 "
                "for @, %3A for :"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None

    def _refused(self, error: urllib.error.HTTPError) -> Exception:
        told = " ".join(f"{error.code} {error.reason}".split())
        if error.code in LATER or error.code >= 500:
            return Passing(told, _wait(error.headers.get("Retry-After", "")))
        if error.code == BEYOND:
            return _Beyond(told)
        if error.code in (404, 410):
            return NotThere(f"{self.url}: {told}; check the URL")
        if error.code in (401, 403, 407):
            return NotAllowed(f"{self.url}: {told}; check the URL and what it takes to be let in")
        return FetchError(f"{self.url}: {told}")

    def _unreachable(self, error: Any) -> Exception:
        if isinstance(error, ssl.SSLCertVerificationError):
            return FetchError(f"{self.url}: {error.verify_message}; its certificate is not trusted here")
        if isinstance(error, TimeoutError):
            return Passing(f"no answer in {self.timeout:g} s")
        return Passing(_told(error))


@functools.cache
def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(Redirects)


def _wait(wish: str) -> float:
    """Seconds that a server asks for, as such or by the time of day; 0 for what is neither."""
    if wish.isdecimal():
        return float(wish)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(wish).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def _version(response: http.client.HTTPResponse, encoding: str) -> Version:
    headers = response.headers
    size = headers.get("Content-Length", "")
    if response.status == http.client.PARTIAL_CONTENT:
        size = headers.get("Content-Range", "").rpartition("/")[2]
    known = size.isdecimal() and not encoding  # else it is that of the packed bytes
    return Version(int(size) if known else None, headers.get("ETag") or headers.get("Last-Modified"))


def _told(error: Any) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
