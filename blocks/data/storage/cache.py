"""A folder of files that can be made again: shard indices, fetched and unpacked shards, the digits."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from blocks.locks import take_lock

NAME = "vitmason"


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/vitmason, or ~/.cache/vitmason. Raises OSError where there is neither."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / NAME
    except RuntimeError:
        raise OSError(
            "this user has no home folder for the cache; set XDG_CACHE_HOME to a folder that can be written"
        ) from None


def fingerprint(path: str) -> str:
    """A file's name in the cache: changes with its place, its size and the times of its last change.

    Of the latter the system's own counts too: a copy may bring the other along.
    """
    stat = os.stat(path)
    return digest(os.path.abspath(path), *map(str, (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)))


def digest(*texts: str) -> str:
    """A short name for some texts."""
    return hashlib.sha256(os.fsencode("\0".join(texts))).hexdigest()[:32]


def once(target: Path, make: Callable[[Path], None]) -> Path:
    """`target`, made by `make(temporary path)` unless it is there: by one process while others wait, or not at all.

    Where a file system has no locks nobody waits, and several may make it. Raises OSError that names the cache when it
    cannot be written.
    """
    if target.exists():
        return target
    with _naming_the_cache(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target) as alone:
            if alone:
                _remove_left_over(target)
            if not target.exists():
                _make(target, make)
    return target


def begun(folder: Path) -> Path:
    """The folder in the cache, made unless it is there. Raises OSError that names the cache when it cannot be."""
    with _naming_the_cache(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _naming_the_cache(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno is None or _is_elsewhere(error.filename, target.parent):  # a damaged archive, a shard that went
            raise
        message = f"cannot write the cache at {target}: {error.strerror}; set XDG_CACHE_HOME to a folder with room"
        raise OSError(error.errno, message) from error


def _is_elsewhere(file: object, folder: Path) -> bool:
    """Whether an error names a file that is neither in the folder nor above it."""
    if not isinstance(file, (str, os.PathLike)):
        return False
    path = Path(file).absolute()
    return not (path.is_relative_to(folder.absolute()) or folder.absolute().is_relative_to(path))


def _remove_left_over(target: Path) -> None:
    """Of a process that was killed here."""
    for left_over in target.parent.glob(f"{target.name}.*.tmp"):
        _remove(left_over)


def _make(target: Path, make: Callable[[Path], None]) -> None:
    folder = Path(tempfile.mkdtemp(prefix=f"{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        make(folder / target.name)
        _sync(folder / target.name)
        _name(folder / target.name, target)
    finally:
        _remove(folder)


def _name(path: Path, target: Path) -> None:
    """Without locks another process may have been faster; a folder cannot replace its folder."""
    try:
        os.rename(path, target)
    except OSError:
        if not target.is_dir():
            raise


def _sync(path: Path) -> None:
    """Bytes before name, or a power cut leaves an empty file under it."""
    if path.is_file():
        with open(path, "rb") as file:
            os.fsync(file.fileno())


@contextmanager
def locked(target: Path) -> Iterator[bool]:
    """One process at a time for this target; the lock goes with its process, however that ends.

    Whether that is so: a file system without locks lets all of them in.
    """
    with _held(target, fcntl.LOCK_EX) as held:
        yield held


@contextmanager
def try_locked(target: Path) -> Iterator[bool]:
    """As `locked`, without waiting: whether the lock was free, as far as there are locks."""
    with _held(target, fcntl.LOCK_EX | fcntl.LOCK_NB) as held:
        yield held


@contextmanager
def _held(target: Path, how: int) -> Iterator[bool]:
    with open(_lock_of(target), "w") as lock:
        held = bool(take_lock(fcntl.flock, lock, how))
        try:
            yield held
        finally:
            if held:
                fcntl.flock(lock, fcntl.LOCK_UN)  # a process forked meanwhile has it open as well


def _lock_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.lock")


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(path)
