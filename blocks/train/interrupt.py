"""SIGTERM and Ctrl-C as a wish, which the loop grants between two steps."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import attrs

AGAIN_S = 3.0  # torchrun passes a Ctrl-C on that the terminal already sent, so the second one counts only after this


@attrs.define
class Interrupt:
    """Whether someone asked the run to stop."""

    asked: float | None = None  # when, on the monotonic clock
    by: int = signal.SIGTERM  # the signal's number; what another process was asked by counts as this

    def __bool__(self) -> bool:
        return self.asked is not None

    @property
    def exit_code(self) -> int:
        """What a program ends with that was asked to: 143, or 130 by Ctrl-C, so that `a && b` does not go on to b."""
        return 128 + self.by

    def _note(self, number: int, frame: object) -> None:
        if self.asked is None:
            self.asked, self.by = time.monotonic(), number
        elif number == signal.SIGINT and time.monotonic() - self.asked > AGAIN_S:
            raise KeyboardInterrupt


@contextmanager
def interrupts() -> Iterator[Interrupt]:
    """Inside, SIGTERM and SIGINT only set the flag; a second Ctrl-C, later, stops at once.

    Outside the main thread Python takes no handlers, and the flag stays down.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = {number: signal.signal(number, interrupt._note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
