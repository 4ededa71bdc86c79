"""Shards that come next are fetched while others are read."""

import gc
import multiprocessing
import pickle
import threading
import time

import numpy as np
import pytest
from torch.utils.data import DataLoader

from blocks.data.index.index import open_shards
from blocks.data.index.read import MAX_EVICTED, Reader
from blocks.data.storage import FetchError, Retries, ShardCache
from blocks.data.storage.ahead import FETCHES, READY, Ahead
from tests.data.indexed import write_index
from tests.data.pictures import shards
from tests.data.server import ALWAYS, Fault, serving

COUNT, PER_SHARD = 24, 2
QUICK = Retries(attempts=2, first_delay=0.01, max_delay=0.01, timeout=2)


@pytest.fixture
def folder(tmp_path):
    shards(tmp_path, COUNT, PER_SHARD)
    write_index(tmp_path)
    return tmp_path


@pytest.fixture
def server(folder):
    with serving({path.name: path.read_bytes() for path in folder.iterdir()}) as running:
        yield running


def wait_until(condition) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.005)


def threads() -> int:
    return sum(thread.name == "shards ahead" for thread in threading.enumerate())


def here(index) -> list[int]:
    return [number for number, shard in enumerate(index.shards) if shard.here()]


def test_what_comes_next_is_fetched_before_it_is_read(server):
    index = open_shards(server.url, retries=QUICK)
    reader = Reader(index)
    reader.ahead(np.array([9, 8, 3]))
    wait_until(lambda: here(index) == [1, 4])
    wait_until(lambda: threads() == 0)
    reader.read(3)
    assert server.bodies("train-000001.tar") == 1


def test_a_shard_that_is_wanted_later_does_not_wait_for_one_that_is_on_its_way():
    begun, go_on = [], threading.Event()

    def fetch(number: int) -> None:
        begun.append(number)
        go_on.wait(20)

    ahead = Ahead(fetch)
    try:
        for number in range(FETCHES):
            ahead.want([number])
            wait_until(lambda: begun == list(range(number + 1)))  # noqa: B023  called in this turn
    finally:
        go_on.set()


def test_few_are_fetched_before_those_are_read(server):
    """A whole epoch may be named; a small cache is not flooded by it."""
    index = open_shards(server.url, retries=QUICK)
    reader, everything = Reader(index), np.arange(COUNT)
    reader.ahead(everything)
    wait_until(lambda: threads() == 0)
    assert READY <= len(here(index)) < READY + FETCHES
    for sample in range(COUNT):
        reader.read(sample)
    wait_until(lambda: threads() == 0)
    assert [server.bodies(path) for path in server.files if path.endswith(".tar")] == [1] * (COUNT // PER_SHARD)


def test_what_is_not_wanted_any_more_is_not_begun(server):
    server.faults = {f"train-{i:06d}.tar": Fault(ALWAYS, stall=0.4) for i in range(12)}
    index = open_shards(server.url, retries=QUICK)
    reader = Reader(index)
    reader.ahead(np.arange(COUNT))
    reader.ahead(np.array([COUNT - 1]))
    wait_until(lambda: threads() == 0)
    assert set(here(index)) <= {0, 1, 11}
    reader.ahead(np.arange(6, 14))
    reader.close()
    wait_until(lambda: threads() == 0)
    assert set(here(index)) <= {0, 1, 11, 3, 4}


def test_an_error_comes_up_where_the_shard_is_needed_and_not_before(server):
    server.faults["train-000001.tar"] = Fault(2, status=500)
    index = open_shards(server.url, retries=QUICK)
    reader = Reader(index)
    reader.ahead(np.arange(4))
    wait_until(lambda: threads() == 0)
    reader.read(0)
    with pytest.raises(FetchError, match=r"train-000001\.tar: not fetched in 2 attempts \(each time: 500"):
        reader.read(2)
    assert server.bodies("train-000001.tar") == 2
    reader.read(2)  # the server is well again


def test_plain_tars_here_start_no_thread(folder):
    reader = Reader(open_shards(folder))
    reader.ahead(np.arange(COUNT))
    assert threads() == 0


def test_the_reader_of_a_loader_forks_and_pickles_with_its_threads(server):
    server.faults = {f"train-{i:06d}.tar": Fault(ALWAYS, stall=0.02) for i in range(12)}
    index = open_shards(server.url, retries=QUICK)
    reader = Reader(index)
    reader.ahead(np.arange(COUNT))  # its locks may be held and its threads be gone in the fork
    loader = DataLoader(_Samples(reader), batch_size=None, num_workers=2, timeout=20)
    assert list(loader) == [reader.read(i) for i in range(COUNT)]
    copy = pickle.loads(pickle.dumps(reader))
    copy.ahead(np.arange(COUNT))
    assert copy.read(COUNT - 1) == reader.read(COUNT - 1)
    assert all(server.bodies(f"train-{i:06d}.tar") == 1 for i in range(12))


class _Samples:
    def __init__(self, reader):
        self.reader = reader

    def __len__(self):
        return COUNT

    def __getitem__(self, sample):
        self.reader.ahead(np.arange(sample, COUNT))
        return self.reader.read(sample)


def test_a_process_may_end_while_it_fetches(server):
    server.faults["train-000000.tar"] = Fault(ALWAYS, stall=5)
    index = open_shards(server.url, retries=QUICK)

    def start_and_leave():
        Reader(index).ahead(np.arange(4))

    process = multiprocessing.get_context("fork").Process(target=start_and_leave)
    start = time.monotonic()
    process.start()
    process.join()
    assert process.exitcode == 0
    assert time.monotonic() - start < 5


def test_a_reader_goes_with_its_last_reference(server):
    server.faults["train-000000.tar"] = Fault(ALWAYS, stall=0.1)
    reader = Reader(open_shards(server.url, retries=QUICK))
    reader.ahead(np.arange(COUNT))
    del reader
    gc.collect()
    wait_until(lambda: threads() == 0)
    assert server.bodies("train-000005.tar") == 0


def test_processes_share_a_cache_that_is_too_small_for_them(folder, server):
    """Shards go while others fetch, open and read them; every byte is right all the same."""
    largest = max(path.stat().st_size for path in folder.glob("*.tar"))
    cache = ShardCache(folder / "cache", 3 * largest)
    local = Reader(open_shards(folder))
    wanted = [local.read(sample) for sample in range(COUNT)]

    def read_all(seed: int) -> None:
        reader = Reader(open_shards(server.url, retries=QUICK, cache=cache))
        order = np.random.default_rng(seed).permutation(COUNT)
        for start in range(0, COUNT, 4):
            reader.ahead(order[start : start + 12])
            for sample in order[start : start + 4]:
                assert reader.read(sample) == wanted[sample]

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=read_all, args=(seed,)) for seed in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4


def test_a_cache_for_two_shards_serves_a_pass_over_all_and_files_of_those_that_went_are_closed(folder, server):
    largest = max(path.stat().st_size for path in folder.glob("*.tar"))
    cache = ShardCache(folder / "cache", 2 * largest)
    reader = Reader(open_shards(server.url, retries=QUICK, cache=cache))
    local = Reader(open_shards(folder))
    for sample in range(COUNT):
        reader.ahead(np.arange(sample, COUNT))
        assert reader.read(sample) == local.read(sample)
    cached = 2 + FETCHES - 1  # those that are fetched at once may be too many until the last is whole
    assert len(reader._open) <= cached + MAX_EVICTED + 1 < COUNT // PER_SHARD
