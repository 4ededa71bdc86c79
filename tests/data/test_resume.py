"""A cursor goes on anywhere: on other processes and workers, with repeats, windows, mixtures, and samples left out."""

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.data.index.index import open_shards
from blocks.data.loading.train_loader import TrainLoader
from blocks.data.sources import mix_sources
from blocks.data.transforms import EvalTransform
from tests.data.pictures import encoded, picture, tar

SETS = {"a": (17, 5, 0), "b": (9, 4, 100), "c": (31, 31, 200)}  # samples, of them in a shard, the first label
DAMAGED, WITHOUT = (203, 209), (205, 208)
STEPS = 9


@pytest.fixture(scope="module")
def indices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        a, b, c = (opened(folder, *one) for one in SETS.items())
        yield {"a": a, "c": c, "ab": mix_sources([(a, 0.7), (b, 0.3)]), "abc": mix_sources([(a, 1), (b, 2), (c, 0.5)])}


def opened(folder, name, numbers):
    count, per_shard, first = numbers
    parts = [range(first + i, first + min(i + per_shard, count)) for i in range(0, count, per_shard)]
    return open_shards([tar(folder / f"{name}-{part[0]}.tar", list(files(part))) for part in parts])


def files(numbers):
    for i in numbers:
        data = encoded(picture(i))
        yield f"{i:04d}.png", data[:60] if i in DAMAGED else data
        if i not in WITHOUT:
            yield f"{i:04d}.cls", b"%d" % i


def run(index, start, world_size=1, num_workers=0, **options):
    """Labels and pixels of the steps from `start` on, all processes' together; and the names of what was left out."""
    ranks, skipped = [], set()
    for rank in range(world_size):
        where = dict(rank=rank, world_size=world_size, num_workers=num_workers)
        with TrainLoader(index, transform=EvalTransform(4), num_classes=400, **where, **options) as loader:
            ranks.append(list(islice(loader.batches(start), STEPS - start)))
            skipped |= set(loader.skipped)
    steps = zip(*ranks, strict=True)
    return [{name: torch.cat([b[name] for b in step]) for name in step[0]} for step in steps], skipped


OPTIONS = st.fixed_dictionaries(
    {
        "batch_size": st.sampled_from([4, 6, 12]),
        "seed": st.integers(0, 9),
        "repeats": st.integers(1, 3),
        "shuffle_window": st.sampled_from([None, 1, 3, 7, 1000]),
    }
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    which=st.sampled_from(["a", "c", "ab", "abc"]),
    options=OPTIONS,
    start=st.integers(1, STEPS - 1),
    share=st.integers(1, 6),
    num_workers=st.sampled_from([0, 0, 0, 0, 0, 1, 3]),
)
def test_from_any_step_on_any_processes_and_workers_the_batches_are_the_same(
    indices, which, options, start, share, num_workers
):
    world_size = next(n for n in range(share, 0, -1) if options["batch_size"] % n == 0)
    wanted, skipped = run(indices[which], 0, **options)
    found, skipped_then = run(indices[which], start, world_size, num_workers, **options)
    assert skipped_then <= skipped
    for mine, other in zip(found, wanted[start:], strict=True):
        assert all(torch.equal(mine[name], other[name]) for name in other)


@pytest.mark.parametrize("window", [None, 5])
def test_each_source_of_a_mixture_goes_through_epochs_of_its_own(indices, window):
    options = {"batch_size": 4, "transform": EvalTransform(4), "num_classes": 400, "shuffle_window": window}
    with TrainLoader(indices["ab"], **options) as loader:
        labels = torch.cat([batch["labels"] for batch in islice(loader.batches(), 250)]).numpy()
    for first, count, share in ((0, 17, 700), (100, 9, 300)):
        own = labels[(labels >= first) & (labels < first + 100)]
        assert len(own) == share
        epochs = own[: len(own) // count * count].reshape(-1, count)
        assert (np.sort(epochs, 1) == np.arange(first, first + count)).all()


def test_a_step_before_the_first_is_refused(indices):
    with (
        TrainLoader(indices["a"], batch_size=4, transform=EvalTransform(4), num_classes=400) as loader,
        pytest.raises(ValueError, match="start_step -1 is before the first step, 0"),
    ):
        loader.batches(-1)
