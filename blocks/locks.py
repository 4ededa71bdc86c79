"""One process at a time, where the file system has locks."""

from collections.abc import Callable
from typing import IO, Any


def take_lock(take: Callable[[IO[Any], int], object], file: IO[Any], how: int) -> bool | None:
    """Lock a file by fcntl.flock or fcntl.lockf: whether nobody else has it; None on a file system without locks."""
    try:
        take(file, how)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True
