"""What is tried again, how often, and when; and how a fetch that failed is told."""

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import attrs

from blocks.secrets import shown

T = TypeVar("T")
PROGRESS = 1 << 20  # bytes


class FetchError(OSError):
    """What could not be fetched: its name, what happened, and what to do; nothing of it is secret."""

    def __init__(self, message: str):
        super().__init__(shown(message))


class NotThere(FetchError, FileNotFoundError):
    """Nothing of this name."""


class NotAllowed(FetchError, PermissionError):
    """The server wants other credentials, or none may read this."""


class Passing(Exception):
    """A failure that may pass; `wait`: seconds that the server asks for."""

    def __init__(self, reason: str, wait: float = 0.0):
        super().__init__(reason)
        self.wait = wait


@attrs.frozen
class Retries:
    """At most `attempts` in vain, with pauses that double from first_delay to max_delay seconds, cut short at random.

    An attempt fails that moves fewer than LEAST bytes a second over `timeout` seconds.
    """

    attempts: int = 6
    first_delay: float = 0.5
    max_delay: float = 30.0
    timeout: float = 30.0

    def __attrs_post_init__(self) -> None:
        if self.attempts < 1 or self.timeout <= 0 or not 0 <= self.first_delay <= self.max_delay:
            raise ValueError(f"{self}: attempts from 1, timeout above 0, first_delay from 0 to max_delay are wanted")

    def run(self, name: str, attempt: Callable[[], T], arrived: Callable[[], int] = lambda: 0) -> T:
        """What `attempt` gives. Raises FetchError when it raised Passing each time; any other error at once.

        They are counted anew when PROGRESS more bytes have `arrived` than ever: a large file may come in many parts.
        """
        reasons, wait, most = list[str](), 0.0, 0
        while len(reasons) < self.attempts:
            if reasons:
                time.sleep(self._delay(len(reasons), wait))
            try:
                return attempt()
            except Passing as error:
                if arrived() >= most + PROGRESS:
                    reasons, most = [], arrived()
                reasons.append(str(error))
                wait = error.wait
        raise FetchError(
            f"{name}: not fetched in {self.attempts} attempts ({_in_short(reasons)}); see whether it can be reached; "
            f"a slow or busy server may want more than Retries(attempts={self.attempts}, timeout={self.timeout:g})"
        )

    def _delay(self, number: int, wait: float) -> float:
        """Random, so that many processes do not come back together; the server's own wish counts up to max_delay."""
        longest = min(self.max_delay, self.first_delay * 2 ** (number - 1))
        return max(longest * random.Random().uniform(0.5, 1), min(wait, self.max_delay))


def _in_short(reasons: list[str]) -> str:
    counts = Counter(reasons)
    if len(counts) == 1:
        return f"each time: {reasons[0]}"
    return "; ".join(reason if count == 1 else f"{count} times: {reason}" for reason, count in counts.items())
