"""Files that are there whole, or as before, also after a power cut."""

import errno
import os
from pathlib import Path


def replace(temporary: Path, path: Path) -> None:
    """Give a written file its name: flush it to the disk, rename it, flush the folder."""
    _flush(temporary)
    os.replace(temporary, path)
    try:
        _flush(path.parent)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of file systems that flush no folders: the name is as safe as it can be
            raise


def _flush(place: Path) -> None:
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
