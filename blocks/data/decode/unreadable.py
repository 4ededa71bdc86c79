"""What is said of a picture that cannot be read."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class UnreadableImage(ValueError):
    """An image that cannot be decoded: the sample's name and the reason, and the picture that was asked for it."""

    def __init__(self, name: str, reason: str, picture: Any = None):
        super().__init__(name, reason)
        self.name, self.reason, self.picture = name, reason, picture

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@contextmanager
def unreadable(name: str | Callable[[], str], picture: Any) -> Iterator[None]:
    """Whatever is raised inside becomes an UnreadableImage, but for what is no fault of the picture."""
    try:
        yield
    except (MemoryError, ImportError):  # ImportError: of a decoder that is not installed
        raise
    except Exception as error:  # Pillow's plugins raise some ten types on damaged bytes
        if isinstance(error, OSError) and error.errno is not None:  # the machine's, as too many open files
            raise
        reason = f"{type(error).__name__}: {error}" if picture.data else "no bytes"
        raise UnreadableImage(name if isinstance(name, str) else name(), reason, picture) from None
