"""What a data worker outlives, and what ends it."""

import multiprocessing
import os
import signal
import threading
from typing import Any

GRACE_S = 600.0  # after which a SIGTERM ends a worker: an evaluation may be at its end by then


def begin_worker(_: int) -> None:
    """Signals that ask a run to stop are for the main process: it stops between two steps, workers alive.

    Ctrl-C reaches the terminal's group, and some schedulers signal each process of a job. When the main process is
    killed its workers end: torch's own watch sees no more than the server that started them, if one did.
    """
    os.setpgrp()
    bear_signals()
    threading.Thread(target=_end_with_main, daemon=True).start()


def bear_signals() -> None:
    """From now on this process ignores SIGUSR1, and ends on the second SIGTERM, or `GRACE_S` after the first.

    The second is that of a main process that is through with its workers.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _asked)


def _asked(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, GRACE_S)  # SIGALRM, which nobody handles


def _end_with_main() -> None:
    main = multiprocessing.parent_process()
    if main is not None:
        main.join()
        os._exit(1)
