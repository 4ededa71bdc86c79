import json
import math
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from blocks.data.index.index import open_shards
from blocks.data.loading.train_loader import TrainLoader
from blocks.data.transforms import EvalTransform, TrainTransform
from tests.data.pictures import encoded, picture, shards, tar

ROOT = Path(__file__).parents[2]
COUNT, CLASSES = 23, 23  # the label is the sample's number: it tells samples apart


def loader(index, **options):
    options = {"batch_size": 6, "transform": TrainTransform(8), "num_classes": CLASSES, "seed": 3, **options}
    return TrainLoader(index, **options)


def steps(loader, count, start_step=0):
    with loader:
        return list(islice(loader.batches(start_step), count))


def labels(batches):
    return torch.cat([batch["labels"] for batch in batches]).tolist()


@pytest.fixture
def index(tmp_path):
    return open_shards(shards(tmp_path, COUNT, 8, num_classes=CLASSES))


@pytest.mark.parametrize("batch_size", [1, 5, 6, 23])
def test_every_epoch_shows_each_sample_once_and_a_batch_may_hold_the_end_of_one(index, batch_size):
    train = loader(index, batch_size=batch_size)
    assert train.steps_per_epoch == COUNT // batch_size
    seen = labels(steps(train, math.ceil(3 * COUNT / batch_size)))
    epochs = [seen[i * COUNT : (i + 1) * COUNT] for i in range(3)]
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("per_shard", [1, 7, 23])
@pytest.mark.parametrize(("world_size", "num_workers"), [(1, 0), (2, 0), (3, 0), (6, 0), (2, 2)])
def test_the_stream_is_the_same_for_any_shards_processes_and_workers(
    tmp_path, index, per_shard, world_size, num_workers
):
    """Joined over the ranks: same samples, same pixels, same places, over an epoch's end (within the fourth step)."""
    wanted = steps(loader(index), 5)
    other = open_shards(shards(tmp_path / "other", COUNT, per_shard, num_classes=CLASSES))
    if num_workers and per_shard != 7:
        pytest.skip("real workers once")
    ranks = [
        steps(loader(other, rank=rank, world_size=world_size, num_workers=num_workers), 5) for rank in range(world_size)
    ]
    for step, batch in enumerate(wanted):
        for name, tensor in batch.items():
            assert torch.equal(torch.cat([rank[step][name] for rank in ranks]), tensor), name


@pytest.mark.parametrize(("start", "num_workers"), [(1, 0), (3, 0), (5, 0), (5, 2)])
def test_a_stream_from_a_step_on_continues_the_uninterrupted_one(index, start, num_workers):
    wanted = steps(loader(index), 8)[start:]
    resumed = steps(loader(index, num_workers=num_workers), 8 - start, start_step=start)
    assert all(torch.equal(a[name], b[name]) for a, b in zip(wanted, resumed, strict=True) for name in a)


def test_a_sample_is_cropped_anew_each_epoch_and_seed(index):
    def pixels_of_sample_0(seed, epoch):
        batch = steps(loader(index, batch_size=COUNT, seed=seed), 1, start_step=epoch)[0]
        return batch["images"][batch["labels"] == 0]

    first, *others = [pixels_of_sample_0(seed, epoch) for seed, epoch in ((3, 0), (3, 1), (4, 0))]
    assert not any(torch.equal(first, other) for other in others)


def test_images_are_normalised(index):
    batch, *_ = steps(loader(index, transform=EvalTransform(8), mean=(0, 0, 0), std=(1, 1, 1)), 1)
    images = batch["images"]
    assert images.shape == (6, 3, 8, 8)
    assert images.is_contiguous()
    assert images.dtype == torch.float32
    assert 0 <= images.min() < 0.3 < 0.7 < images.max() <= 1
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    other, *_ = steps(loader(index, transform=EvalTransform(8), mean=mean, std=std), 1)
    wanted = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(other["images"], wanted)


def test_a_corrupt_image_is_replaced_by_the_next_of_the_order_and_named(tmp_path, index):
    """The same for any workers and processes; all other rows keep their pixels."""
    damaged = open_shards(shards(tmp_path / "damaged", COUNT, 5, num_classes=CLASSES, damaged=(4, 11)))
    whole = loader(index)
    order = labels(steps(loader(index, batch_size=COUNT), 1))
    wanted = steps(whole, 3)
    train = loader(damaged)
    batches = steps(train, 3)
    for before, after in zip(wanted, batches, strict=True):
        for row, label in enumerate(before["labels"].tolist()):
            if label in (4, 11):
                assert after["labels"][row] == order[(order.index(label) + 1) % COUNT]
            else:
                assert torch.equal(after["images"][row], before["images"][row])
    met = {label for label in (4, 11) if label in labels(wanted)}
    assert len(train.skipped) == len(met) > 0
    for label in met:
        (name,) = [name for name in train.skipped if name.endswith(f"sample {label:04d}")]
        assert f"train-{label // 5:06d}.tar" in name
        assert train.skipped[name]
    split = [loader(damaged, rank=rank, world_size=2, num_workers=2) for rank in range(2)]
    halves = [steps(half, 3) for half in split]
    assert all(
        torch.equal(torch.cat([half[step]["images"] for half in halves]), batches[step]["images"]) for step in range(3)
    )
    assert set().union(*(half.skipped for half in split)) == set(train.skipped)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_many_corrupt_images_in_a_row_are_an_error(tmp_path, num_workers):
    index = open_shards(shards(tmp_path, 12, 12, damaged=tuple(range(12))))
    with pytest.raises(ValueError, match="10 samples in a row are unreadable"):
        steps(loader(index, num_workers=num_workers), 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 24}, "batch_size 24 is larger than the 23 samples"),
        ({"batch_size": 6, "world_size": 4}, "batch_size 6 does not split over 4 processes; 8 does"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"rank": 2, "world_size": 2}, "rank 2 is not one of 2 processes"),
        ({"rank": 0.5, "world_size": 2}, "rank 0.5 is not one of 2 processes"),
        ({"seed": -1}, "seed -1 is out of range"),
        ({"num_workers": -1}, "num_workers -1 is not a count"),
        ({"num_classes": -1}, "num_classes -1 is not a count"),
        ({"shuffle_window": 0}, "shuffle_window 0 is not a number of samples"),
        ({"shuffle_window": 5.0}, "shuffle_window 5.0 is not a number of samples"),
        ({"repeats": 2.0}, "repeats 2.0 is not a whole number from 1 to the batch_size 6"),
        ({"repeats": True}, "repeats True is not a whole number"),
        ({"num_classes": 22}, "label 22 is not one of 22 classes"),
        ({"std": (1, 0, 1)}, "std"),
    ],
)
def test_what_does_not_fit_is_refused_at_construction(index, options, words):
    with pytest.raises(ValueError, match=words):
        loader(index, **options)


def test_whole_numbers_of_numpy_are_whole_numbers(index):
    options = {"seed": 3, "repeats": 2, "shuffle_window": 7, "rank": 0}
    python, numpy = loader(index, **options), loader(index, **{name: np.int64(x) for name, x in options.items()})
    assert json.dumps(numpy.facts) == json.dumps(python.facts)
    for mine, other in zip(steps(numpy, 2), steps(python, 2), strict=True):
        assert all(torch.equal(mine[name], other[name]) for name in other)


def test_a_step_before_the_first_is_refused(index):
    with pytest.raises(ValueError, match="start_step -1 is before the first step, 0"):
        loader(index).batches(-1)


def test_odd_pictures_train(tmp_path):
    modes = ["L", "CMYK", "P", "RGBA", "LA", "1", "RGB"]
    files = [(f"{m}.{e}", d) for m in modes for e, d in (("tiff", encoded(picture(0, mode=m), "tiff")), ("cls", b"0"))]
    files += [("one.png", encoded(picture(0, 1, 1))), ("one.cls", b"0")]
    train = loader(open_shards(tar(tmp_path / "a.tar", files)), batch_size=8)
    assert steps(train, 1)[0]["images"].isfinite().all()
    assert not train.skipped


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_global_random_state_is_left_alone(index, num_workers):
    before = torch.random.get_rng_state()
    steps(loader(index, num_workers=num_workers), 4)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_a_worker_gets_can_be_copied_to_a_fresh_process(index):
    """Python's default from 3.14 on: workers are started, not forked."""
    batches = loader(index)._batches
    there = pickle.loads(pickle.dumps(batches))
    assert torch.equal(there[3]["images"], batches[3]["images"])


def test_closing_stops_the_workers(index):
    before = set(multiprocessing.active_children())
    train = loader(index, num_workers=2)
    stream = train.batches()
    next(stream)
    assert len(set(multiprocessing.active_children()) - before) == 2
    train.close()
    assert set(multiprocessing.active_children()) <= before
    assert next(stream, None) is None


def _kill_a_worker_and_go_on(index):
    stream = loader(index, num_workers=2).batches()
    next(stream)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    for _ in range(100):
        next(stream)


def test_a_killed_worker_is_an_error_and_no_hang(index, tmp_path):
    """In a program of its own: torch raises from a signal handler, wherever the process is by then."""
    (tmp_path / "index").write_bytes(pickle.dumps(index))
    program = f"""
import pickle, pathlib
from tests.data.test_train_loader import _kill_a_worker_and_go_on
_kill_a_worker_and_go_on(pickle.loads(pathlib.Path({str(tmp_path / "index")!r}).read_bytes()))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert re.search("RuntimeError: .*worker.*(killed|exited)", done.stderr)


def test_a_shard_that_shrinks_while_it_is_read_is_an_error(index):
    train = loader(index)
    os.truncate(index.shards[0].local(), 600)
    with pytest.raises(OSError, match="became shorter"):
        steps(train, 3)


def test_a_signal_to_the_whole_group_leaves_the_workers_alive(index):
    """Ctrl-C reaches every process of the terminal's group; the run wants to stop between two steps, its data alive."""
    before = set(multiprocessing.active_children())
    train = loader(index, num_workers=1)
    stream = train.batches()
    next(stream)
    (worker,) = set(multiprocessing.active_children()) - before
    assert os.getpgid(worker.pid) != os.getpgid(0)
    train.close()


def test_workers_bear_signals_of_others_and_end_for_the_main_process(index):
    """Some schedulers signal each process of a job: the run stops between two steps, its data alive until then."""
    before = set(multiprocessing.active_children())
    train = loader(index, num_workers=1)
    stream = train.batches()
    next(stream)
    (worker,) = set(multiprocessing.active_children()) - before
    for name in ("USR1", "TERM", "TERM"):
        subprocess.run(["kill", f"-{name}", str(worker.pid)], check=True)
    for _ in range(12):
        next(stream)
    assert worker.is_alive()
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == 0
    train.close()
