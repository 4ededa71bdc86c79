"""Files that are there whole, or as before, also after a power cut."""

import errno
import os
import zipfile
import zlib
from pathlib import Path

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)  # numbers of the errors of a full disk, or quota
# what Python's reader of archives raises, by which of their headers is damaged
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError)


def replace(temporary: Path, path: Path) -> None:
    """Give a written file its name: flush it to the disk, rename it, flush the folder."""
    _flush(temporary)
    os.replace(temporary, path)
    try:
        _flush(path.parent)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of file systems that flush no folders: the name is as safe as it can be
            raise


def is_intact(archive: str | Path) -> bool:
    """Whether a zip archive, as torch saves one, has all its bytes as they were written (every entry's CRC-32)."""
    with open(archive, "rb") as file:
        try:
            with zipfile.ZipFile(file) as entries:
                return entries.testzip() is None
        except BROKEN:
            return False


def _flush(place: Path) -> None:
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
