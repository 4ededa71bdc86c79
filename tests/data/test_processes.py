"""Real processes with real workers: the same samples and pixels as one process sees, and no hang when one is killed."""

import gc
import os
import signal
import threading
import time

import attrs
import numpy as np
import pytest
import torch

from blocks.data.index.index import open_shards
from blocks.data.loading.eval_loader import EvalLoader
from blocks.data.loading.train_loader import TrainLoader
from blocks.data.transforms import TrainTransform
from tests.data import processes
from tests.data.pictures import shards


@pytest.fixture(scope="module")
def indices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        return [open_shards(shards(folder / name, count, 4)) for name, count in (("a", 7), ("b", 10))]


@pytest.fixture(scope="module")
def two(indices, tmp_path_factory):
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("two")
    started = [processes.start(processes.one_of_two, rank, indices, folder) for rank in range(2)]
    assert processes.wait(*started) == [0, 0]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_two_processes_begin_and_three_others_go_on_with_what_one_would_have_seen(indices, two):
    """Over data epochs' ends, of a mixture with a window and repeats."""
    wanted = processes.steps(processes.train_loader(indices), 0, processes.STEPS)
    resumed = [
        processes.steps(
            processes.train_loader(indices, rank=rank, world_size=3, num_workers=rank % 2),
            processes.RESUMED,
            processes.STEPS,
        )
        for rank in range(3)
    ]
    for name, expected in wanted.items():
        first = torch.cat([found["steps"][name] for found in two], 1)
        second = torch.cat([found[name] for found in resumed], 1)
        assert torch.equal(torch.cat([first, second]), expected), name


def test_two_processes_evaluate_each_sample_once(indices, two):
    assert torch.cat([found["seen"] for found in two]).tolist() == list(range(len(indices[0])))


def test_a_process_that_is_killed_ends_the_other_with_an_error_and_its_own_workers(indices, tmp_path):
    started = [processes.start(processes.killed_beside_another, rank, indices, tmp_path) for rank in range(2)]
    assert processes.wait(*started) == [1, -signal.SIGKILL]
    assert _ends(int((tmp_path / "worker").read_text()))


def _ends(pid):
    """Whether a process is gone soon."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def _stuck(images, keys):
    time.sleep(60)


def test_a_stuck_worker_is_an_error_that_names_the_way_out(indices):
    options = {"batch_size": 2, "transform": _stuck, "num_classes": 3, "num_workers": 1}
    began = time.monotonic()
    with (
        pytest.raises(RuntimeError, match=r"no batch came from 1 data workers within 0.3 s: .* a longer timeout"),
        TrainLoader(indices[0], **options, timeout=0.3) as train,
    ):
        next(train.batches())
    assert time.monotonic() - began < 30


def test_without_workers_what_is_stuck_is_the_same_error(indices):
    options = {"batch_size": 2, "transform": _stuck, "num_classes": 3, "timeout": 0.3}
    for make in (
        lambda: next(TrainLoader(indices[0], **options).batches()),
        lambda: list(EvalLoader(indices[0], **options)),
    ):
        began = time.monotonic()
        with pytest.raises(RuntimeError, match=r"no batch was made within 0.3 s: the storage hangs.* a longer timeout"):
            make()
        assert time.monotonic() - began < 30


def test_without_workers_errors_are_those_of_the_batch_and_threads_end_with_their_loader(indices):
    def broken(images, keys):
        raise TimeoutError("its own")

    options = {"batch_size": 2, "num_classes": 3}
    with pytest.raises(TimeoutError, match="its own"), TrainLoader(indices[0], transform=broken, **options) as train:
        next(train.batches())
    before = threading.active_count()
    for _ in range(5):
        with TrainLoader(indices[0], transform=TrainTransform(8), **options) as train:
            next(train.batches())
    del train
    gc.collect()
    for _ in range(50):
        if threading.active_count() <= before:
            return
        time.sleep(0.1)
    raise AssertionError(threading.enumerate())


@pytest.mark.parametrize("timeout", [0, -1.0])
def test_a_timeout_is_a_time(indices, timeout):
    with pytest.raises(ValueError, match="timeout"):
        TrainLoader(indices[0], batch_size=2, transform=TrainTransform(8), num_classes=3, timeout=timeout)


def test_the_reader_is_told_what_comes_next(indices):
    """Four batches of this process; with a window also some until the stream is one window further."""
    told = []
    train = TrainLoader(indices[1], batch_size=2, transform=TrainTransform(8), num_classes=10, seed=1)
    train._batches.reader.ahead = lambda samples: told.append(samples.tolist())
    with train:
        stream = train.batches()
        for _ in range(3):
            next(stream)
    batches = [train._batches.coming(2 * step)[:4].tolist() for step in range(4)]
    assert told[0] == batches[0] + batches[1]
    assert told[2] == batches[1] + batches[2]
    windowed = attrs.evolve(train, shuffle_window=8, rank=1, world_size=2)._batches
    assert windowed.coming(0).tolist() == windowed.stream[np.array([1, 3, 5, 7])][0].tolist()
    windowed = attrs.evolve(train, index=indices[1].take(np.arange(10)[::-1]), shuffle_window=10)._batches
    assert windowed.coming(0).tolist() == windowed.stream[np.arange(10)][0].tolist()
