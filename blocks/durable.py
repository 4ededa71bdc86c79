"""Files that are there whole, or as before, also after a power cut."""

import os
from pathlib import Path


def replace(temporary: Path, path: Path) -> None:
    """Give a written file its name: flush it to the disk, rename it, flush the folder."""
    _flush(temporary)
    os.replace(temporary, path)
    _flush(path.parent)


def _flush(place: Path) -> None:
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
