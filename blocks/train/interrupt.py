"""SIGTERM, SIGUSR1 and Ctrl-C as a wish, which the loop grants between two steps."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)  # SIGUSR1: Slurm's usual warning before the time is up
AGAIN_S = 3.0  # torchrun passes a Ctrl-C on that the terminal already sent, so the second one counts only after this


@attrs.define
class Interrupt:
    """Whether someone asked the run to stop."""

    asked: float | None = None  # when, on the monotonic clock
    by: int = signal.SIGTERM  # the signal's number; what another process was asked by counts as this
    say: Callable[[str], None] = print

    def __bool__(self) -> bool:
        return self.asked is not None

    @property
    def exit_code(self) -> int:
        """What a program ends with that was asked to: 143, or 130 by Ctrl-C, so that `a && b` does not go on to b."""
        return 128 + self.by

    def _note(self, number: int, frame: object) -> None:
        if self.asked is None:
            self.asked, self.by = time.monotonic(), number
            again = "; Ctrl-C again stops at once" if number == signal.SIGINT else ""
            what = f"{signal.Signals(number).name}: stops after this step, or after the evaluation that runs{again}"
            threading.Thread(target=self.say, args=(what,)).start()  # whom it interrupts may be speaking
        elif number == signal.SIGINT and time.monotonic() - self.asked > AGAIN_S:
            raise KeyboardInterrupt


@contextmanager
def interrupts(say: Callable[[str], None] = print) -> Iterator[Interrupt]:
    """Inside, signals only set the flag, and it is said; a second Ctrl-C, later, stops at once.

    Outside the main thread Python takes no handlers, and the flag stays down.
    """
    interrupt = Interrupt(say=say)
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = {number: signal.signal(number, interrupt._note) for number in SIGNALS}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
