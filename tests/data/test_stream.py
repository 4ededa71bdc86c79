"""The endless order by itself, without pictures: tables of positions, in any parts, by slow references."""

import pickle

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.data.index.index import Index
from blocks.data.order import augment_keys, epoch_order, mix_key, windowed_order
from blocks.data.sources import source_places
from blocks.data.storage.shard import Shard
from blocks.data.stream import Share, Stream
from blocks.train.resume import check_same_run

quick = settings(max_examples=40, deadline=None, derandomize=True)
counts = st.lists(st.integers(1, 9), min_size=1, max_size=6)  # samples in each shard


def index(counts):
    """Samples without bytes."""
    shard = np.repeat(np.arange(len(counts)), counts)
    zeros = np.zeros(len(shard), np.int64)
    names = tuple(Shard(f"{i}.tar") for i in range(len(counts)))
    return Index(names, shard, zeros, zeros, np.arange(len(shard)))


def rows(stream, share, first, last):
    """(sample, epoch, copy) of a share's rows of these steps."""
    for step in range(first, last):
        places, copies = share.places(step)
        yield from zip(*(x.tolist() for x in stream[places.numpy()]), copies.tolist(), strict=True)


@quick
@given(counts, st.integers(1, 20), st.integers(1, 4), st.sampled_from([None, 1, 4, 1000]), st.data())
def test_every_epoch_holds_each_sample_once_whatever_the_parts(counts, batch_size, repeats, window, data):
    """Joined over the processes, which may be others after a resume; with repeats each sample so many times."""
    samples = sum(counts)
    batch_size, repeats = min(batch_size, samples), min(repeats, batch_size, samples)
    stream = Stream(index(counts), 3, window)
    steps = -(-2 * samples * repeats // batch_size)
    resumed = data.draw(st.integers(0, steps))
    seen = []
    for first, last in ((0, resumed), (resumed, steps)):
        world_size = data.draw(st.sampled_from([n for n in range(1, batch_size + 1) if batch_size % n == 0]))
        for step in range(first, last):
            for rank in range(world_size):
                seen += rows(stream, Share(batch_size, rank, world_size, repeats), step, step + 1)
    assert seen == list(rows(Stream(index(counts), 3, window), Share(batch_size, repeats=repeats), 0, steps))
    for epoch in (0, 1):
        wanted = [(sample, epoch, copy) for sample in range(samples) for copy in range(repeats)]
        assert sorted(row for row in seen if row[1] == epoch) == wanted


@quick
@given(counts, st.integers(1, 60), st.integers(0, 3))
def test_a_window_reads_shards_one_after_another(counts, window, epoch):
    """As written down: shards permuted, then each stretch of `window` samples shuffled by itself."""
    shard = index(counts).shard
    order = windowed_order(shard, 3, epoch, window).numpy()
    assert sorted(order) == list(range(len(shard)))
    stretches = [order[start : start + window] for start in range(0, len(order), window)]
    in_turn = [int(s) for s in dict.fromkeys(shard[np.concatenate([np.sort(stretch) for stretch in stretches])])]
    permuted = windowed_order(shard, 3, epoch, 1).numpy()
    by_shard = list(dict.fromkeys(shard[permuted].tolist()))
    unshuffled = np.concatenate([np.flatnonzero(shard == one) for one in by_shard])
    assert np.array_equal(permuted, unshuffled)
    assert sorted(in_turn) == sorted(by_shard)
    for start, stretch in zip(range(0, len(order), window), stretches, strict=True):
        assert sorted(stretch) == sorted(unshuffled[start : start + window])


def test_a_window_over_all_is_uniform():
    """Each of 6 samples in 3 shards comes first in about a sixth of 600 epochs: five standard deviations are 46."""
    shard = np.array([0, 0, 0, 1, 1, 2])
    first = np.bincount([int(windowed_order(shard, 0, epoch, 6)[0]) for epoch in range(600)], minlength=6)
    assert np.abs(first - 100).max() < 46


def test_windows_differ_by_seed_and_epoch():
    shard = np.repeat(np.arange(5), 20)
    orders = {tuple(windowed_order(shard, seed, epoch, 30).tolist()) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


def test_orders_and_keys_are_those_of_earlier_versions():
    """Never to change: a run goes on under a newer version with its own samples, crops and mixtures."""
    shard, copies = np.repeat(np.arange(4), 2), torch.tensor([0, 1])
    assert epoch_order(7, 3, 2).tolist() == [3, 6, 4, 0, 2, 1, 5]
    assert epoch_order(7, 3, 2, source=1).tolist() == [5, 2, 4, 3, 1, 0, 6]
    assert windowed_order(shard, 3, 2, 4).tolist() == [3, 6, 2, 7, 0, 1, 4, 5]
    assert windowed_order(shard, 3, 2, 4, source=1).tolist() == [6, 7, 5, 4, 1, 0, 3, 2]
    assert source_places(np.arange(1000, 1012), (300, 700), 3)[0].tolist() == [0, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1, 0]
    keys = augment_keys(torch.tensor([5, 5]), 3, 2, copies)
    assert keys.tolist() == [[-2036520038, -885148276], [741932864, 723171152]]
    assert mix_key(3, 9).tolist() == [1645847476, -1180703545]


def test_a_sample_that_is_twice_in_a_batch_has_two_keys():
    """Once for each epoch: the batch holds the end of one and the start of the next."""
    stream = Stream(index([5]), 0)
    samples, epochs = stream[np.arange(3, 8)]
    twice = [sample for sample in range(5) if (samples == sample).sum() == 2]
    keys = augment_keys(torch.from_numpy(samples), 0, torch.from_numpy(epochs))
    assert len({tuple(key) for key in keys.tolist()}) == 5
    for sample in twice or pytest.fail("the seed puts no sample on both sides"):
        assert sorted(epochs[samples == sample]) == [0, 1]


def test_keys_of_several_epochs_are_those_of_each():
    samples, epochs = torch.arange(6), torch.tensor([0, 1, 2, 0, 1, 7])
    keys = augment_keys(samples, 3, epochs)
    assert all(
        torch.equal(keys[i : i + 1], augment_keys(samples[i : i + 1], 3, int(epoch))) for i, epoch in enumerate(epochs)
    )


def test_places_may_be_asked_in_any_order():
    stream, places = Stream(index([4, 3]), 1), np.array([40, 3, 3, 100, 0, 8])
    wanted = [int(epoch_order(7, 1, place // 7)[place % 7]) for place in places]
    assert stream[places][0].tolist() == wanted
    assert stream[places][1].tolist() == (places // 7).tolist()


def test_the_next_of_an_order_is_of_the_same_epoch():
    stream = Stream(index([4, 3]), 1)
    order = stream[np.arange(7, 14)][0]
    for later in range(9):
        samples, epochs = stream.after(np.arange(7, 14), later)
        assert np.array_equal(samples, np.roll(order, -later))
        assert (epochs == 1).all()


def test_a_stream_keeps_few_orders():
    stream = Stream(index([7]), 0)
    for place in range(0, 700, 5):
        stream[np.arange(place, place + 5)]
    assert len(stream._orders) == 2


def test_what_the_order_follows_from_is_told():
    five, windowed = Stream(index([5]), 0).facts(), Stream(index([2, 3]), 0, 4).facts()
    samples = five.pop("samples")
    assert five == {"num_samples": 5, "data_seed": 0, "shuffle_window": None}
    assert windowed["shards"] != Stream(index([3, 2]), 0, 4).facts()["shards"]
    assert samples == Stream(attrs.evolve(index([5])), 0).facts()["samples"] == windowed["samples"]


def test_samples_are_told_by_what_they_are_and_not_by_where_they_lie():
    def facts(**changes):
        return Stream(attrs.evolve(index([2, 3]), **changes), 0).facts()

    moved = facts(shards=(Shard("elsewhere/0.tar"), Shard("elsewhere/1.tar")), offset=np.arange(5) * 1024)
    assert moved == facts()
    other = [facts(size=np.arange(5)), facts(label=np.arange(5)[::-1].copy())]
    assert len({one["samples"] for one in [facts(), *other]}) == 3


def test_a_run_goes_on_with_its_own_samples_alone():
    """Checkpoints from before the digest have none, and a set that was scanned knows no names of classes."""
    first, other = (
        {"facts": Stream(attrs.evolve(index([5]), label=labels), 0).facts(), "settings": {}}
        for labels in (np.arange(5), np.array([0, 1, 2, 4, 3]))
    )
    with pytest.raises(ValueError, match=r"another run: samples was 5 \(sizes and labels .*\), is 5 \(sizes and"):
        check_same_run(first, other, "step.pt")
    before = {"facts": {name: fact for name, fact in first["facts"].items() if name != "samples"}, "settings": {}}
    assert check_same_run(before, other, "step.pt") == []
    cats, dogs = (
        {"facts": Stream(attrs.evolve(index([5]), classes=tuple(names)), 0).facts(), "settings": {}}
        for names in ("abcde", "edcba")
    )
    assert check_same_run(first, cats, "step.pt") == []
    with pytest.raises(ValueError, match=r"another run: classes was 5 \(names .*\), is 5 \(names "):
        check_same_run(cats, dogs, "step.pt")


def test_pictures_of_one_size_are_told_by_their_shards_checksums():
    def facts(*checksums):
        shards = tuple(Shard(f"{i}.tar", sha256=one) for i, one in enumerate(checksums))
        return {"facts": Stream(attrs.evolve(index([2, 3]), shards=shards), 0).facts(), "settings": {}}

    with pytest.raises(ValueError, match=r"another run: checksums was those of 2 shards \(.*\), is those of 2 "):
        check_same_run(facts("a", "b"), facts("a", "c"), "step.pt")
    assert check_same_run(facts("a", None), facts("a", "c"), "step.pt") == []  # not all of them are known


def test_the_samples_are_read_once_for_it(monkeypatch):
    digests = []
    monkeypatch.setattr("blocks.data.stream.contents", lambda index: digests.append(index) or "5")
    stream = Stream(index([5]), 0)
    assert stream.facts() == stream.facts()
    assert len(digests) == 1
    assert pickle.loads(pickle.dumps(stream)).facts() == stream.facts()
