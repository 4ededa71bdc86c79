"""How much pictures kept decoded may take: in the memory, on a device, and on the disk, where old sets make way."""

import contextlib
import fcntl
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import attrs
import torch

from blocks.data.storage.cache import begun, cache_folder, locked, try_locked
from blocks.locks import take_lock

VARIABLE = "VITMASON_DECODED_GB"
SHARE = 2  # a half of what is free: the other is for a second loader, the model and the workers
KEPT_FREE = 0.1  # of the disk
MEMINFO, CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


@attrs.frozen
class Decoded:
    """What a set takes decoded: so many pictures of (height, width, 3) bytes."""

    count: int
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return self.count * math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.count} pictures of {self.shape[1]} x {self.shape[0]} pixels take {_gb(self.bytes)} decoded"


def sets_folder() -> Path:
    """Where the sets lie."""
    return cache_folder() / "decoded"


def check_memory(decoded: Decoded, where: str, device: torch.device, world_size: int) -> None:
    """Raises ValueError for a set that is too large for the "memory" of all processes here, or for the "device"."""
    copies = 1 if device.type != "cpu" and where == "device" else min(world_size, _processes_here())
    limit, whose = _own_limit(), VARIABLE
    if limit is None:
        free, whose = _free(where, device)
        limit = free // SHARE
    if copies * decoded.bytes > limit:
        each = f" in each of {copies} processes" if copies > 1 else ""
        raise ValueError(
            f"{decoded}{each}, and decoded={where!r} may take {_gb(limit)} ({whose}); use decoded='disk', smaller "
            f"pictures or fewer, or set {VARIABLE} to {copies * decoded.bytes / 1e9:.3g} or more if there is room"
        )


def check_disk(decoded: Decoded) -> None:
    """Raises ValueError for a set that would not fit if all others went."""
    limit = _disk_limit()
    if decoded.bytes > limit:
        raise ValueError(f"{decoded}, and {sets_folder()} may take {_gb(limit)} ({_whose()}); {_way_out()}")


@contextlib.contextmanager
def disk_room(decoded: Decoded) -> Iterator[None]:
    """Inside, the set may take its room: those least recently used went. Raises ValueError where that is not enough."""
    with locked(sets_folder() / "room"):
        _remove_left_over()
        for path in sorted(_sets(), key=lambda path: path.stat().st_mtime_ns):  # none goes while we have the lock
            if _taken() + decoded.bytes <= _disk_limit():
                break
            _remove_unused(path)
        limit = _disk_limit()
        if _taken() + decoded.bytes > limit:
            raise ValueError(
                f"{decoded}, and {sets_folder()} may take {_gb(limit)} ({_whose()}), of which decoded sets in use take "
                f"{_gb(_taken())}; {_way_out()}"
            )
        yield


class Used:
    """While this lives, here or in a fork, a set is not removed. Raises FileNotFoundError where it has just been."""

    def __init__(self, path: Path):
        self._file = os.open(path, os.O_RDONLY)
        take_lock(fcntl.flock, self._file, fcntl.LOCK_SH)
        if os.fstat(self._file).st_ino != os.stat(path).st_ino:
            raise FileNotFoundError(path)
        with contextlib.suppress(OSError):  # a cache that is only read
            os.utime(path)  # the latest used is the last to go

    def __del__(self):
        with contextlib.suppress(AttributeError):  # it could not be opened
            os.close(self._file)


def free_memory(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int:
    """Bytes that processes may still take: of the machine, or of the container."""
    free = next(int(line.split()[1]) for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable"))
    return min(1024 * free, _free_in_cgroup(cgroup))


def _free_in_cgroup(cgroup: Path) -> int:
    """Of version 2 or 1; without end where there is none. Pages of files that nobody uses are free."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):  # "max"
            most, taken = (int((cgroup / name).read_text()) for name in (limit, used))
            stat = (cgroup / limit).with_name("memory.stat").read_text().split()
            names = dict(zip(stat[::2], map(int, stat[1::2]), strict=True))
            return max(0, most - taken + names.get("total_inactive_file", names.get("inactive_file", 0)))
    return 1 << 62


def _free(where: str, device: torch.device) -> tuple[int, str]:
    if where == "device" and device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0], f"half of what is free on {device}"
    return free_memory(), "half of the memory that is free"


def _processes_here() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE") or 1)  # torchrun's


def _own_limit() -> int | None:
    text = os.environ.get(VARIABLE, "")
    try:
        limit = int(float(text) * 1e9) if text else None
    except (ValueError, OverflowError):
        limit = -1
    if limit is not None and limit < 0:
        raise ValueError(f"{VARIABLE}={text} is not a number of gigabytes; 50, for example")
    return limit


def _disk_limit() -> int:
    own = _own_limit()
    if own is not None:
        return own
    disk = shutil.disk_usage(begun(sets_folder()))
    return max(0, _taken() + disk.free - int(KEPT_FREE * disk.total))


def _whose() -> str:
    return VARIABLE if _own_limit() is not None else "what leaves a tenth of the disk free"


def _way_out() -> str:
    return f"set XDG_CACHE_HOME to a folder with room, or {VARIABLE} to a higher limit, or do without decoded"


def _sets() -> list[Path]:
    return [path.parent for path in sets_folder().glob("*/pixels.npy") if path.parent.suffix != ".tmp"]


def _taken() -> int:
    files = [path for pattern in ("*/pixels.npy", "*.tmp/*/pixels.npy") for path in sets_folder().glob(pattern)]
    total = 0
    for path in files:
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def _remove_unused(path: Path) -> None:
    held = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        gone = path.with_name(f"{path.name}.gone.tmp")
        path.rename(gone)  # at once: nobody opens a half of it
        shutil.rmtree(gone, ignore_errors=True)
    except OSError:
        pass  # it is in use, or not ours to remove
    finally:
        os.close(held)


def _remove_left_over() -> None:
    """Parts of processes that were killed: nobody holds their lock."""
    for part in sets_folder().glob("*.tmp"):
        with try_locked(part.with_name(part.name.partition(".")[0])) as free:
            if free:
                shutil.rmtree(part, ignore_errors=True)


def _gb(size: int) -> str:
    return f"{size / 1e9:.3g} GB"
