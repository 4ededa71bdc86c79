"""Repeated augmentation: the places of an epoch, each sample several times."""

from itertools import islice

import numpy as np
import pytest
import torch

from blocks.data.index.index import open_shards
from blocks.data.loading.train_loader import TrainLoader
from blocks.data.order import augment_keys, repeated_places
from blocks.data.stream import Stream
from blocks.data.transforms import TrainTransform
from tests.data.pictures import decodings, shards

COUNT = 23  # the label is the sample's number: it tells samples apart


def loader(index, **options):
    options = {"batch_size": 6, "transform": TrainTransform(8), "num_classes": COUNT, "seed": 3, **options}
    return TrainLoader(index, **options)


def steps(loader, count, start_step=0):
    with loader:
        return list(islice(loader.batches(start_step), count))


@pytest.fixture
def index(tmp_path):
    return open_shards(shards(tmp_path, COUNT, 8, num_classes=COUNT))


@pytest.mark.parametrize(("batch_size", "repeats"), [(6, 3), (6, 1), (4, 3), (7, 2), (5, 5)])
def test_every_sample_comes_so_many_times_on_end(batch_size, repeats):
    """The batches' places, each batch sorted, are 0 0 0 1 1 1 2 ..., every one with the copies 0 1 2."""
    batches = [repeated_places(i * batch_size, (i + 1) * batch_size, batch_size, repeats) for i in range(6)]
    seen = [pair for batch in batches for pair in sorted(zip(*(x.tolist() for x in batch), strict=True))]
    assert seen == [divmod(place, repeats) for place in range(6 * batch_size)]


@pytest.mark.parametrize(("batch_size", "repeats"), [(6, 3), (7, 3), (8, 2), (12, 4), (256, 3)])
def test_neighbours_are_different_samples(batch_size, repeats):
    for start in range(0, 5 * batch_size, batch_size):
        places, _ = repeated_places(start, start + batch_size, batch_size, repeats)
        assert (places[1:] != places[:-1]).all()


def test_as_many_processes_as_repeats_get_different_samples():
    shares = [repeated_places(start, start + 4, 12, 3)[0] for start in range(12, 24, 4)]
    assert all(share.tolist() == [4, 5, 6, 7] for share in shares)


def test_a_share_is_a_part_of_the_batch():
    whole = repeated_places(12, 24, 12, 3)
    parts = [repeated_places(start, start + 3, 12, 3) for start in range(12, 24, 3)]
    assert all(torch.equal(torch.cat(part), x) for part, x in zip(zip(*parts, strict=True), whole, strict=True))


def test_copies_have_different_keys_and_the_first_is_that_of_no_repeats():
    samples, copies = torch.arange(5).repeat(3), torch.arange(3).repeat_interleave(5)
    keys = augment_keys(samples, 0, 1, copies)
    assert len({tuple(row) for row in keys.tolist()}) == 15
    assert torch.equal(keys[:5], augment_keys(samples[:5], 0, 1))


def test_a_data_epoch_lasts_longer(index):
    """All of its samples come, each three times, before the next begins; steps are counted as before."""
    train = loader(index, repeats=3)
    assert train.steps_per_epoch == COUNT // 6
    seen = torch.cat([batch["labels"] for batch in steps(train, 12)]).tolist()
    order, _ = Stream(index, 3)[np.arange(2 * COUNT)]
    assert sorted(seen[:66]) == sorted(np.repeat(order[:22], 3))
    assert sorted(seen[66:]) == sorted(np.repeat(order[22:24], 3))
    single, repeated = (torch.cat([b["labels"] for b in steps(x, 3)]) for x in (loader(index), train))
    assert sorted(repeated.tolist()) == sorted(single[:6].tolist() * 3)  # the head of the same order


def test_copies_are_augmented_differently(index):
    """The first as without repeats."""
    (batch,) = steps(loader(index, repeats=3), 1)
    first, second, third = batch["images"].chunk(3)
    assert torch.equal(first, steps(loader(index), 1)[0]["images"][:2])
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


@pytest.mark.parametrize(("world_size", "num_workers"), [(2, 0), (3, 0), (6, 0), (2, 1)])
def test_processes_and_workers_change_no_repeated_batch(index, world_size, num_workers):
    wanted = steps(loader(index, repeats=2), 4)
    options = {"repeats": 2, "world_size": world_size, "num_workers": num_workers}
    ranks = [steps(loader(index, rank=rank, **options), 4) for rank in range(world_size)]
    for step, batch in enumerate(wanted):
        for name, tensor in batch.items():
            assert torch.equal(torch.cat([rank[step][name] for rank in ranks]), tensor), name


def test_a_picture_is_decoded_once_for_its_copies(index, monkeypatch):
    decoded = decodings(monkeypatch)
    labels = steps(loader(index, repeats=3), 2)[1]["labels"]
    assert len(decoded) == len(set(decoded)) == 4
    assert {int(name[-4:]) for name in decoded[2:]} == set(labels.tolist())


def test_copies_of_a_corrupt_image_are_replaced_by_the_next_of_the_order(tmp_path, index):
    order = torch.cat([batch["labels"] for batch in steps(loader(index), 3)]).tolist()
    damaged = open_shards(shards(tmp_path / "damaged", COUNT, 8, num_classes=COUNT, damaged=(order[1],)))
    train = loader(damaged, repeats=3)
    assert steps(train, 1)[0]["labels"].tolist() == [order[0], order[2]] * 3
    assert len(train.skipped) == 1


def test_repeats_out_of_range_are_refused(index):
    for repeats in (0, 7):
        with pytest.raises(ValueError, match=f"repeats {repeats} .* batch_size 6"):
            loader(index, repeats=repeats)
