"""What lets one in, in a URL, is shown nowhere: no message, log or file of a run has it."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

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


def lacks_a_secret(text: str) -> bool:
    """Whether it is a URL as it may be seen, which had more that lets one in."""
    return "://" in text and HIDDEN in text


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


def without_secrets(values: Any) -> Any:
    """The same values, JSON-able or tuples of such, every text in them as it may be seen."""
    if isinstance(values, str):
        return shown(values)
    if isinstance(values, Mapping):
        return {name: without_secrets(value) for name, value in values.items()}
    return type(values)(map(without_secrets, values)) if isinstance(values, list | tuple) else values
