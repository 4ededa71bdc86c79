"""The cache of shards: one download for all, a limit that holds, and nothing half-made under a final name."""

import contextlib
import ctypes
import errno
import io
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from blocks.data.storage import CacheFull, FetchError, Retries, ShardCache, shard_cache
from blocks.data.storage.cache import once, try_locked
from blocks.data.storage.part import Part
from blocks.data.storage.shard import RemoteShard
from blocks.data.storage.source import Version
from tests.data.server import ALWAYS, Fault, serving

SIZE = 10_000
NOT_ALLOWED = 77
QUICK = Retries(attempts=2, first_delay=0.01, max_delay=0.01, timeout=0.3)
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def server():
    with serving({f"{i}.tar": bytes([i + 1]) * SIZE for i in range(5)}) as running:
        yield running


def shard(server, number: int, folder: Path, limit: int | None = 10 * SIZE, **known) -> RemoteShard:
    known = {"retries": QUICK, "expected": Version(SIZE), **known}
    return RemoteShard(f"{server.url}/{number}.tar", ShardCache(folder, limit), **known)


def content(path: str) -> bytes:
    return Path(path).read_bytes()


def plain_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_shard_is_fetched_once(server, tmp_path):
    one = shard(server, 0, tmp_path)
    assert one.here() is None
    assert content(one.local()) == server.files["0.tar"]
    assert one.here() == one.local()
    assert server.bodies("0.tar") == 1
    assert plain_files(tmp_path) == [Path(one.local())]


def test_processes_that_want_the_same_shard_download_it_once(server, tmp_path):
    server.faults["0.tar"] = Fault(ALWAYS, stall=0.2)
    one = shard(server, 0, tmp_path)
    processes = [FORK.Process(target=one.local) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert server.bodies("0.tar") == 1
    assert content(one.local()) == server.files["0.tar"]


@pytest.mark.parametrize("another", [0, 1])
def test_what_a_killed_process_left_is_removed(server, tmp_path, another):
    """By whoever fetches that shard or another one."""
    server.faults["0.tar"] = Fault(ALWAYS, trickle=0.0005)
    process = FORK.Process(target=shard(server, 0, tmp_path, retries=Retries()).local)  # patient on a busy machine
    process.start()
    while server.sent["0.tar"] < 500:
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    del server.faults["0.tar"]
    assert shard(server, 0, tmp_path).here() is None
    assert len(plain_files(tmp_path)) == 1
    other = shard(server, another, tmp_path)
    assert content(other.local()) == server.files[f"{another}.tar"]
    assert plain_files(tmp_path) == [Path(other.local())]


def test_a_fetch_that_fails_leaves_nothing(server, tmp_path):
    server.faults["0.tar"] = Fault(ALWAYS, garbage=True)
    with pytest.raises(FetchError):
        shard(server, 0, tmp_path, sha256="0" * 64).local()
    assert plain_files(tmp_path) == []


def test_the_least_recently_used_go_first(server, tmp_path):
    shards = [shard(server, i, tmp_path, limit=3 * SIZE) for i in range(4)]
    for one in (*shards[:3], shards[0], shards[3]):
        one.local()
        time.sleep(0.02)  # beyond the clock's steps
    assert [one.here() is None for one in shards] == [False, True, False, False]
    assert sum(path.stat().st_size for path in plain_files(tmp_path)) == 3 * SIZE


def test_a_shard_that_goes_stays_readable_where_it_is_open_and_is_fetched_again_elsewhere(server, tmp_path):
    first, second = (shard(server, i, tmp_path, limit=SIZE) for i in range(2))
    file = first.open()
    second.local()
    assert first.here() is None
    assert os.pread(file, 2 * SIZE, 0) == server.files["0.tar"]
    os.close(file)
    assert content(first.local()) == server.files["0.tar"]
    assert server.bodies("0.tar") == 2


def test_a_shard_above_the_limit_is_an_error_with_both_values(server, tmp_path):
    with pytest.raises(
        CacheFull, match=rf"0\.tar wants {SIZE} bytes, the shards in {tmp_path} may take 5000; raise VITMASON_CACHE_GB"
    ):
        shard(server, 0, tmp_path, limit=5000).local()
    assert server.sent["0.tar"] <= SIZE
    with pytest.raises(CacheFull, match="may take 5000"):  # of which the size is not known before
        RemoteShard(f"pipe:head -c {SIZE} /dev/zero", ShardCache(tmp_path, 5000), QUICK, Version()).local()
    assert plain_files(tmp_path) == []


def test_a_source_that_cannot_be_read_is_not_blamed_on_the_cache(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        once(tmp_path / "cache" / "table.npy", lambda _: (tmp_path / "train-000000.tar").read_bytes())
    assert "cache" not in str(error.value)
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="cannot write the cache"):
            once(folder / "table.npy", lambda target: target.touch())


@pytest.fixture(params=[errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def no_locks(request, monkeypatch):
    """As on a file system that has none."""

    def refuse(*_):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr("fcntl.flock", refuse)


@pytest.mark.usefixtures("no_locks")
def test_where_there_are_no_locks_shards_are_fetched_and_parts_of_others_stay(server, tmp_path):
    """Nothing says whether somebody is still writing them; nor is the own part in the way."""
    one = shard(server, 0, tmp_path)
    others = [tmp_path / f"{name}.x.tmp" / name for name in (one.in_cache().name, "another.tar")]
    for other in others:
        other.parent.mkdir()
        other.touch()
    assert content(one.local()) == server.files["0.tar"]
    assert all(other.exists() for other in others)
    with try_locked(tmp_path / "another.tar") as free:
        assert not free


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize("create", [lambda path: path.touch(), lambda path: (path / "below").mkdir(parents=True)])
def test_where_there_are_no_locks_two_may_make_the_same_at_once(tmp_path, create):
    target = tmp_path / "cache" / "target"

    def make(path):
        if not target.exists():
            once(target, create)  # as another process does
        create(path)

    assert once(target, make) == target
    assert {path.name for path in target.parent.iterdir()} == {"target", "target.lock"}


def test_the_limit_is_the_environments(monkeypatch, cache):
    monkeypatch.setenv("VITMASON_CACHE_GB", "1.5")
    assert ShardCache.from_environment() == ShardCache(cache / "shards", 1_500_000_000)
    monkeypatch.setenv("VITMASON_CACHE_GB", "much")
    with pytest.raises(ValueError, match="VITMASON_CACHE_GB=much is not a number of gigabytes"):
        ShardCache.from_environment()
    monkeypatch.delenv("VITMASON_CACHE_GB")
    assert ShardCache.from_environment().limit_bytes is None


def _disk(free: int):
    """What statvfs says of a disk of 1 MB."""
    return lambda _: os.statvfs_result((1, 1, 10**6, free, free, 0, 0, 0, 0, 255))


def test_without_a_limit_a_tenth_of_the_disk_is_left_free(server, tmp_path, monkeypatch):
    shards = [shard(server, i, tmp_path, limit=None) for i in range(3)]
    monkeypatch.setattr("os.statvfs", _disk(free=10**5 + 2 * SIZE))
    shards[0].local()
    monkeypatch.setattr("os.statvfs", _disk(free=10**5))
    shards[1].local()
    assert [one.here() is None for one in shards] == [True, False, True]
    monkeypatch.setattr("os.statvfs", _disk(free=10**5 - 5000))
    with pytest.raises(CacheFull, match=r"has 5000 above the tenth that is left free.* VITMASON_CACHE_GB"):
        shards[2].local()


def _fill_a_small_disk(folder: Path, told) -> None:
    _mount_small_disk(folder)
    cache = ShardCache(folder, 10**9)
    names = [f"pipe:head -c 400000 /dev/zero; true {i}" for i in range(3)]
    shards = [RemoteShard(name, cache, QUICK, Version()) for name in names]
    for one in shards:
        one.local()
    told.put([one.here() is None for one in shards])
    try:
        RemoteShard("pipe:head -c 2000000 /dev/zero", cache, QUICK, Version()).local()
    except CacheFull as error:
        told.put(str(error))
    told.put(plain_files(folder))


def _mount_small_disk(folder: Path) -> None:
    """1 MB that only this process sees; it needs to be root only in a name space of its own."""
    libc, (user, group) = ctypes.CDLL(None, use_errno=True), (os.getuid(), os.getgid())
    if libc.unshare(0x10000000 | 0x00020000):  # CLONE_NEWUSER | CLONE_NEWNS
        os._exit(NOT_ALLOWED)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    if libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, b"size=1M"):
        os._exit(NOT_ALLOWED)


def test_a_full_disk_makes_others_go_and_is_an_error_when_that_does_not_do(tmp_path):
    """A real one, where this user may mount one."""
    told = FORK.Queue()
    process = FORK.Process(target=_fill_a_small_disk, args=(tmp_path, told))
    process.start()
    process.join()
    if process.exitcode == NOT_ALLOWED:
        pytest.skip("no permission to mount a small disk here")
    assert process.exitcode == 0
    assert told.get(timeout=5) == [True, False, False]
    error = told.get(timeout=5)
    assert "No space left on device, and no other shard in" in error
    assert "limit 1000000000 bytes" in error
    assert told.get(timeout=5) == []


def test_a_write_that_fails_for_want_of_space_is_tried_after_another_shard_went(server, tmp_path, monkeypatch):
    """As on a full disk, where none can be mounted."""
    first, second = (shard(server, i, tmp_path) for i in range(2))
    first.local()
    write = Part._write

    class Full(io.FileIO):
        def write(self, data):
            if first.here():
                raise OSError(errno.ENOSPC, "full")
            return super().write(data)

    def on_full_disk(self, data):
        self.file = Full(os.dup(self.file.fileno()), "r+b")
        return write(self, data)

    monkeypatch.setattr(Part, "_write", on_full_disk)
    second.local()
    assert first.here() is None


def test_a_part_takes_its_room_before_another_may_count_what_is_taken(tmp_path, monkeypatch):
    cache, lengths, locked = ShardCache(tmp_path, 10 * SIZE), [], shard_cache.locked

    @contextlib.contextmanager
    def watched(target):
        with locked(target) as free:
            yield free
            lengths.append(cache._taken())

    def make(path):
        with cache.writing(path, "0.tar") as part:
            part.expect(SIZE)

    monkeypatch.setattr(shard_cache, "locked", watched)
    cache.file(tmp_path / "0.tar", make)
    assert lengths == [SIZE]
