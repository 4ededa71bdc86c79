"""What a data worker outlives, and what ends it."""

import multiprocessing
import os
import signal
import threading
from typing import Any


def begin_worker(_: int) -> None:
    """Signals that ask a run to stop are for the main process: it stops between two steps, workers alive.

    Ctrl-C reaches the terminal's group, and some schedulers signal each process of a job. What ends a worker is the
    main process's own SIGTERM, and its death: torch's watch sees no more than the server that started them, if one did.
    """
    os.setpgrp()
    main = multiprocessing.parent_process()
    if main is None:
        return
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # in the threads that follow too
    threading.Thread(target=_end_with, args=(main,), daemon=True).start()
    threading.Thread(target=_end_for, args=(main,), daemon=True).start()


def _end_with(main: Any) -> None:
    main.join()
    os._exit(1)


def _end_for(main: Any) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main.pid:
        pass
    os._exit(0)
