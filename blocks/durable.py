"""Files that are there whole, or as before, also after a power cut; and one process's at a time."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


def replace(temporary: Path, path: Path) -> None:
    """Give a written file its name: flush it to the disk, rename it, flush the folder."""
    _flush(temporary)
    os.replace(temporary, path)
    _flush(path.parent)


def take_lock(take: Callable[[IO[Any], int], object], file: IO[Any], how: int) -> bool | None:
    """Lock a file by fcntl.flock or fcntl.lockf: whether nobody else has it; None on a file system without locks."""
    try:
        take(file, how)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def _flush(place: Path) -> None:
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
