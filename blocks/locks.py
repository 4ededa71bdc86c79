"""One process at a time, where the file system has locks."""

from collections.abc import Callable
from typing import IO, Any


def take_lock(take: Callable[[Any, int], object], file: IO[Any] | int, how: int) -> bool | None:
    """Lock an open file, or its number, by fcntl.flock or fcntl.lockf: whether nobody else has it.

    None on a file system without locks.
    """
    try:
        take(file, how)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True
