"""One run at a time in a folder: two would mix their records and delete each other's checkpoints."""

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from blocks.locks import take_lock

LOCK = ".lock"  # says who writes, for people


@contextmanager
def claimed(folder: str | Path) -> Iterator[None]:
    """Inside, the folder is there and this process's alone; the claim ends with the process, a killed one's too.

    Raises ValueError for a folder that another process has claimed, and for one that cannot be written to.
    """
    with _opened(folder) as file:
        # the process's own: data workers that fork do not keep it
        if take_lock(fcntl.lockf, file, fcntl.LOCK_EX | fcntl.LOCK_NB) is False:
            file.seek(0)
            raise ValueError(
                f"another run is writing to {folder} ({file.read()}); let it end, or give another folder (--out)"
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        yield


def _opened(folder: str | Path) -> TextIO:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        return open(Path(folder) / LOCK, "a+", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{folder} cannot be written to ({error.strerror}); give another folder (--out)") from error
