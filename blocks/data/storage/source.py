"""What every place that shards come from can do; and how its slowness is noticed."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

import attrs

from blocks.data.storage.part import Part
from blocks.data.storage.retries import Passing

T = TypeVar("T")
LEAST = 1024  # bytes a second: below, a connection counts as hanging
READ = 1 << 20  # bytes at a time


@attrs.frozen
class Version:
    """What tells a file from an older or newer one of its name: bytes, and the server's mark (ETag or time)."""

    bytes: int | None = None
    mark: str | None = None

    def check(self, found: "Version") -> None:
        """Raises Passing where `found` is another version than this; None is any."""
        if None not in (self.bytes, found.bytes) and self.bytes != found.bytes:
            raise Passing(f"it has {found.bytes} bytes where {self.bytes} are due")
        if None not in (self.mark, found.mark) and self.mark != found.mark:
            raise Passing(f"it changed: {found.mark} is not {self.mark}")


class Source(Protocol):
    """A file somewhere. Each call is one attempt: raises Passing where another may succeed, FetchError where not."""

    def version(self) -> Version: ...

    def append(self, part: Part) -> None:
        """The rest of the file, or all of it after `part.restart()`."""


def within(timeout: float, call: Callable[[], T]) -> T:
    """call(), in a thread that is left behind when it takes longer. Raises TimeoutError then, else what it raised."""
    answer: Future[T] = Future()
    threading.Thread(target=_answer, args=(answer, call), daemon=True).start()
    return answer.result(timeout)


def _answer(answer: Future, call: Callable[[], object]) -> None:
    try:
        answer.set_result(call())
    except BaseException as error:
        answer.set_exception(error)


class Pace:
    """Raises Passing when fewer than LEAST bytes a second move over `timeout` seconds."""

    def __init__(self, timeout: float):
        self.timeout = timeout
        self._start, self._moved = time.monotonic(), 0

    def moved(self, size: int) -> None:
        self._moved += size
        now = time.monotonic()
        if now - self._start < self.timeout:
            return
        if self._moved < LEAST * self.timeout:
            raise Passing(f"only {self._moved} bytes in {now - self._start:.3g} s")
        self._start, self._moved = now, 0
