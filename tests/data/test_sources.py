"""Several data sets by weight."""

from collections import Counter
from itertools import islice

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.data.index.index import open_shards
from blocks.data.loading.train_loader import TrainLoader
from blocks.data.sources import PERIOD, mix_sources, source_places
from blocks.data.stream import Stream
from blocks.data.subset import balanced_share
from blocks.data.transforms import EvalTransform, TrainTransform
from tests.data.pictures import shards
from tests.data.test_stream import index

quick = settings(max_examples=15, deadline=None, derandomize=True)


def mixture(sizes=((3, 4), (5,), (2, 2, 2)), weights=(0.5, 0.2, 0.3)):
    return mix_sources(zip(map(index, sizes), weights, strict=True))


@quick
@given(st.lists(st.floats(0.05, 9.0), min_size=1, max_size=5), st.integers(0, 3))
def test_each_source_has_exactly_its_share_of_every_thousand(weights, period):
    mixed = mix_sources((index([2, 3]), weight) for weight in weights)
    source, _ = source_places(PERIOD * period + np.arange(PERIOD), mixed.quotas, 3)
    found, exact = np.bincount(source, minlength=len(weights)), PERIOD * np.array(weights) / sum(weights)
    assert found.tolist() == list(mixed.quotas)
    assert (np.abs(found - exact) < 1).all()


@quick
@given(st.integers(10, 400), st.sampled_from([None, 1, 4]))
def test_each_source_goes_through_its_own_epochs_whatever_the_batches(batch_size, window):
    places, sizes = 1100, ((13, 8), (17,), (9, 9, 9))
    mixed = mixture(sizes)
    stream, alone = Stream(mixed, 3, window), Stream(mixed, 3, window)
    parts = [stream[np.arange(start, min(start + batch_size, places))] for start in range(0, places, batch_size)]
    samples, epochs = (np.concatenate(part) for part in zip(*parts, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip((samples, epochs), alone[np.arange(places)], strict=True))
    for first, size in ((0, 21), (21, 17), (38, 27)):
        mine = (samples >= first) & (samples < first + size)
        seen = Counter(zip(samples[mine].tolist(), epochs[mine].tolist(), strict=True))
        assert set(seen.values()) == {1}
        whole = mine.sum() // size
        assert all((sample, epoch) in seen for sample in range(first, first + size) for epoch in range(whole))


def test_sources_of_equal_size_have_different_orders_and_the_first_that_of_its_own():
    mixed = mix_sources([(index([40]), 1), (index([40]), 1)])
    samples, _ = Stream(mixed, 5)[np.arange(PERIOD)]
    first, second = samples[samples < 40][:40], samples[samples >= 40][:40] - 40
    assert np.array_equal(first, Stream(index([40]), 5)[np.arange(40)][0])
    assert not np.array_equal(first, second)


def test_the_next_of_an_order_is_of_the_same_source():
    mixed = mixture()
    stream, places = Stream(mixed, 3), np.arange(50)
    ends = np.cumsum(mixed.sizes)
    for later in (1, 2, 7):
        source = [np.searchsorted(ends, x, side="right") for x in (stream[places][0], stream.after(places, later)[0])]
        assert np.array_equal(*source)


def test_a_mixture_is_an_index_of_all(tmp_path):
    a, b = (open_shards(shards(tmp_path / n, count, 4)) for n, count in (("a", 6), ("b", 9)))
    mixed = mix_sources([(a, 3), (b, 1)])
    assert (len(mixed), mixed.num_classes, mixed.quotas) == (15, 3, (750, 250))
    assert [mixed.name(i) for i in (0, 6)] == [a.name(0), b.name(0)]
    assert repr(mixed) == "Sources(15 samples in 5 shards: 75.0% of 6, 25.0% of 9)"
    few = balanced_share(mixed, 0.5)
    assert few.sizes == (len(few) - few.sizes[1], few.sizes[1])
    assert few.quotas == mixed.quotas
    assert len(mix_sources([(balanced_share(a, 0.5), 1), (b, 1)])) == 12


@pytest.mark.parametrize("window", [None, 5])
def test_it_trains_as_an_index_does_on_any_processes_and_workers(tmp_path, window):
    """An unreadable image is replaced by one of its own source."""
    a = open_shards(shards(tmp_path / "a", 6, 4, num_classes=3))
    b = open_shards(shards(tmp_path / "b", 9, 4, num_classes=3, damaged=(2, 5)))
    mixed = mix_sources([(a, 2), (b, 1)])
    options = {"batch_size": 6, "transform": TrainTransform(8), "num_classes": 3, "shuffle_window": window}

    def steps(start, **where):
        with TrainLoader(mixed, **options, **where) as train:
            return list(islice(train.batches(start), 6 - start)), train.skipped

    wanted, skipped = steps(0)
    assert {name.rsplit("/", 1)[-1] for name in skipped} == {
        "train-000000.tar, sample 0002",
        "train-000001.tar, sample 0005",
    }
    for rank in range(2):
        for name in ("images", "labels", "index"):
            mine = torch.stack([batch[name] for batch in steps(2, rank=rank, world_size=2, num_workers=2)[0]])
            assert torch.equal(mine, torch.stack([batch[name].chunk(2)[rank] for batch in wanted[2:]]))


def test_class_names_that_differ_are_refused():
    names = {"a": ("cat", "dog"), "b": ("cat", "cow"), "c": ("cat",), "none": None}
    kinds = {name: attrs.evolve(index([2]), classes=classes) for name, classes in names.items()}
    assert mix_sources([(kinds["none"], 1), (kinds["a"], 1)]).classes == ("cat", "dog")
    with pytest.raises(ValueError, match=r"0.tar and 0.tar have different classes \(1 is 'dog' and 'cow'\)"):
        mix_sources([(kinds["a"], 1), (kinds["b"], 1)])
    with pytest.raises(ValueError, match="2 and 1 of them"):
        mix_sources([(kinds["a"], 1), (kinds["c"], 1)])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mix_sources([]), "0 sources: give one index or more"),
        (lambda: mix_sources([(mixture(), 1)]), "the indices of a mixture one by one"),
        (lambda: mixture(weights=(1, 0, 1)), r"weights \[1, 0, 1\] are not all finite and above 0"),
        (lambda: mixture(weights=(1, 1, 1e-6)), "give source 2 none of 1000 places"),
        (lambda: mixture().take(np.array([9, 0, 17])), "keep their order and a sample each"),
        (lambda: mixture().take(np.array([0, 9])), r"\[1, 1, 0\] of the sources"),
    ],
)
def test_what_is_no_mixture_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_what_the_order_follows_from_holds_sizes_and_shares(tmp_path):
    a = open_shards(shards(tmp_path, 6, 4))
    options = {"batch_size": 4, "transform": EvalTransform(8), "num_classes": 3}
    facts = TrainLoader(mix_sources([(a, 1), (a, 3)]), **options, repeats=2, shuffle_window=9, seed=4).facts
    assert facts["sources"] == [[6, 250], [6, 750]]
    assert (facts["num_samples"], facts["repeats"], facts["shuffle_window"], facts["data_seed"]) == (12, 2, 9, 4)
