"""A folder of plain tars, fetched or unpacked, that stays below a limit: the least recently used go first."""

import contextlib
import errno
import glob
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Self

import attrs

from blocks.data.storage.cache import begun, cache_folder, locked, once, try_locked
from blocks.data.storage.part import Part
from blocks.durable import NO_SPACE

VARIABLE = "VITMASON_CACHE_GB"
KEPT_FREE = 0.1  # of the disk, where no limit is given
SPARE = 1 << 26  # bytes reserved ahead where the size is unknown


class CacheFull(OSError):
    """A shard for which no room can be made."""


@attrs.frozen
class ShardCache:
    """At most `limit_bytes` in `folder`; None: as much as leaves a tenth of its disk free.

    A shard that goes while a process reads it stays readable there: its descriptor is open. Shards that several
    processes are fetching at once may exceed the limit until the last of them is whole.
    """

    folder: Path = attrs.field(converter=Path)
    limit_bytes: int | None = None

    @classmethod
    def from_environment(cls) -> Self:
        """In the cache folder, below $VITMASON_CACHE_GB (of 10^9 bytes)."""
        text = os.environ.get(VARIABLE, "")
        try:
            limit = int(float(text) * 1e9) if text else None
        except (ValueError, OverflowError):
            raise ValueError(f"{VARIABLE}={text} is not a number of gigabytes; 200, for example") from None
        return cls(cache_folder() / "shards", limit)

    def file(self, target: Path, make: Callable[[Path], None]) -> Path:
        """A file in the folder, made by `make(path)` unless it is there: by one process, while others wait."""
        with contextlib.suppress(OSError):
            os.utime(target)  # the latest used is the last to go
        return once(target, make)

    @contextlib.contextmanager
    def writing(self, path: Path, name: str, report: Callable[[int], object] | None = None) -> Iterator[Part]:
        """A part at `path` that others make way for. Raises CacheFull that names the shard and the limit."""
        try:
            with open(path, "w+b", buffering=0) as file:
                yield Part(file, _Room(self, name), report)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            raise CacheFull(
                f"{name}: {os.strerror(errno.ENOSPC)}, and no other shard in {self.folder} is left to remove "
                f"(limit {self.limit()} bytes); free some, or set XDG_CACHE_HOME to a folder with room"
            ) from None

    def evict(self, allowed: int) -> int:
        """Remove the least recently used until `allowed` bytes are taken -> bytes removed; parts in the making stay."""
        files = sorted((self._stat(path), path) for path in self._paths("*.tar"))
        taken, removed = self._taken(), 0
        for (_, size), path in files:
            if taken - removed <= allowed:
                break
            path.unlink(missing_ok=True)
            removed += size
        return removed

    def limit(self) -> int:
        """Bytes that it may take."""
        folder = begun(self.folder)
        if self.limit_bytes is not None:
            return self.limit_bytes
        disk = os.statvfs(folder)
        return self._taken() + int((disk.f_bavail - KEPT_FREE * disk.f_blocks) * disk.f_frsize)

    def _taken(self) -> int:
        return sum(self._stat(path)[1] for pattern in ("*.tmp/*", "*.tar") for path in self._paths(pattern))

    def _paths(self, pattern: str) -> list[Path]:
        """Unlike Path.glob, not put out by folders that go meanwhile."""
        return [self.folder / name for name in glob.glob(pattern, root_dir=self.folder)]

    def _stat(self, path: Path) -> tuple[int, int]:
        """(last use, bytes), (0, 0) for one that another process just removed."""
        with contextlib.suppress(FileNotFoundError):
            stat = path.stat()
            return stat.st_mtime_ns, stat.st_size
        return 0, 0

    def _remove_left_over(self) -> None:
        """Parts of processes that were killed: nobody holds their lock."""
        for part in self._paths("*.tmp"):
            target = part.with_name(part.name.split(".tar")[0] + ".tar")
            with try_locked(target) as free:
                if free:
                    shutil.rmtree(part, ignore_errors=True)


@attrs.frozen
class _Room:
    """The room of one part in a cache."""

    cache: ShardCache
    name: str

    def reserve(self, file: BinaryIO, size: int, reserved: int) -> int:
        cache = self.cache
        with locked(cache.folder / "room"):
            cache._remove_left_over()
            limit = cache.limit()
            if size > limit:
                raise CacheFull(_too_small(self.name, size, cache, limit))
            if reserved:  # it grows bit by bit
                size = min(size + min(size // 8, SPARE), limit)
            cache.evict(limit - (size - reserved))
            file.truncate(size)  # before the next one counts what is taken
        return size

    def give_way(self, size: int) -> bool:
        with locked(self.cache.folder / "room"):
            return self.cache.evict(self.cache._taken() - max(size, 1)) > 0


def _too_small(name: str, size: int, cache: ShardCache, limit: int) -> str:
    if cache.limit_bytes is not None:
        return (
            f"{name} wants {size} bytes, the shards in {cache.folder} may take {limit}; "
            f"raise {VARIABLE} or limit_bytes, or write smaller shards"
        )
    return (
        f"{name} wants {size} bytes, the disk of {cache.folder} has {max(limit, 0)} above the tenth that is left free; "
        f"free some, set XDG_CACHE_HOME to a folder with room, or a limit of your own in {VARIABLE}"
    )
