"""What lets one in, in a URL: used where it is asked, and shown nowhere."""

import base64
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

HIDDEN = "***"
_LOGIN = re.compile(
    r"(://[^/?#\s:@\[]*:)"
    r"(?:[^/?#\s]*@"  # user:password@
    r"|(?!\d*(?:[/?#\s]|$))\S*@)"  # with a slash in the password, which is no port then
)
_USER = re.compile(r"(https?://)[^/?#\s:@\[]+@")  # alone it is a token
_QUERY = re.compile(r"\?\S+")  # of a path alone too, as servers tell it back
_VALUE = re.compile(
    r"([?&;](?:[^=&;#]*(?:signature|token|secret|password|passwd|credential|api_?-?key)[^=&;#]*"
    r"|sig|key|auth|authorization|pwd|pass|policy)=)[^&;#'\"]*[^&;#'\":,]",
    re.IGNORECASE,
)


def shown(text: str) -> str:
    """A text as it may be seen: of the URLs in it without passwords, tokens and signatures."""
    return _QUERY.sub(lambda found: _VALUE.sub(rf"\1{HIDDEN}", found[0]), without_password(text))


def without_password(text: str) -> str:
    """A text as it may be seen but for the queries of its URLs."""
    return _USER.sub(rf"\1{HIDDEN}@", _LOGIN.sub(rf"\1{HIDDEN}@", text))


@contextmanager
def hiding_secrets() -> Iterator[None]:
    """Errors that leave it are told as they may be seen."""
    try:
        yield
    except Exception as error:
        error.args = tuple(shown(part) if isinstance(part, str) else part for part in error.args)
        raise


def login(url: str) -> tuple[str, dict[str, str]]:
    """The URL without its user and password, and the header that says them to its own host."""
    parts = urllib.parse.urlsplit(url)
    if "@" not in parts.netloc:
        return url, {}
    given, _, host = parts.netloc.rpartition("@")
    user, _, password = map(urllib.parse.unquote, given.partition(":"))
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    return parts._replace(netloc=host).geturl(), {"Authorization": f"Basic {basic}"}


class Redirects(urllib.request.HTTPRedirectHandler):
    """Who asks is told to the host that was named, and to no other."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        given = req.unredirected_hdrs.get("Authorization")
        if new is not None and given and _host(newurl) == _host(req.full_url):
            new.add_unredirected_header("Authorization", given)
        return new


def _host(url: str) -> tuple[str, str]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.netloc
