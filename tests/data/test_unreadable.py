"""Images that cannot be read: replaced in training, left out in evaluation, whoever finds out and whenever."""

import errno
import os
import re
from itertools import islice

import numpy as np
import pytest
import torch

from blocks.data.decode import Encoded, UnreadableImage, pillow
from blocks.data.index.index import open_shards
from blocks.data.loading.eval_loader import EvalLoader
from blocks.data.loading.train_loader import TrainLoader
from blocks.data.stream import Stream
from blocks.data.transforms import EvalTransform, TrainTransform
from tests.data.pictures import shards

COUNT = 23  # the label is the sample's number: it tells samples apart
DAMAGED = (4, 5, 11)


def train_loader(index, **options):
    options = {"batch_size": 6, "transform": TrainTransform(8), "num_classes": COUNT, "seed": 3, **options}
    return TrainLoader(index, **options)


def eval_loader(index, **options):
    return EvalLoader(index, **{"batch_size": 5, "transform": EvalTransform(8), "num_classes": COUNT, **options})


def steps(loader, count):
    with loader:
        return list(islice(loader.batches(), count))


def make(folder, damaged):
    return open_shards(shards(folder, COUNT, 8, num_classes=COUNT, damaged=damaged))


@pytest.fixture
def index(tmp_path):
    return make(tmp_path / "damaged", DAMAGED)


def test_what_the_transform_finds_is_replaced_as_what_the_header_tells(index, monkeypatch):
    def both():
        return [batch for repeats in (1, 2) for batch in steps(train_loader(index, repeats=repeats), 8)]

    before = both()  # a header is whole: only who asks for the pixels finds the damage
    monkeypatch.setattr(Encoded, "size", property(lambda self: self.rgb().size))
    for a, b in zip(before, both(), strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_no_other_row_changes_and_keys_stay_with_their_places(index, tmp_path):
    whole = steps(train_loader(make(tmp_path / "whole", ())), 8)
    train = train_loader(index)
    seen = 0
    for step, (before, after) in enumerate(zip(whole, steps(train, 8), strict=True)):
        damaged = torch.isin(before["labels"], torch.tensor(DAMAGED))
        assert torch.equal(after["images"][~damaged], before["images"][~damaged])
        assert not torch.isin(after["labels"], torch.tensor(DAMAGED)).any()
        for row in damaged.nonzero()[:, 0].tolist():
            places, later = np.array([6 * step + row]), 0
            while (sample := int(Stream(index, 3).after(places, later)[0][0])) in DAMAGED:
                later += 1
            assert after["labels"][row] == sample
            seen += 1
    assert seen > len(DAMAGED)
    assert {int(name[-4:]) for name in train.skipped} == set(DAMAGED)


@pytest.mark.parametrize(("world_size", "num_workers"), [(2, 0), (3, 0), (2, 1)])
def test_processes_and_workers_change_no_substitute(index, world_size, num_workers):
    wanted = steps(train_loader(index), 6)
    where = {"world_size": world_size, "num_workers": num_workers}
    ranks = [steps(train_loader(index, rank=rank, **where), 6) for rank in range(world_size)]
    for step, batch in enumerate(wanted):
        for name, tensor in batch.items():
            assert torch.equal(torch.cat([rank[step][name] for rank in ranks]), tensor), name


def test_evaluation_leaves_out_what_the_transform_finds(index):
    val = eval_loader(index)
    batches = list(val)
    assert torch.cat([batch["labels"] for batch in batches]).tolist() == [i for i in range(COUNT) if i not in DAMAGED]
    assert [len(batch["labels"]) for batch in batches] == [4, 4, 4, 5, 3]
    assert len(val.skipped) == 3


def test_a_transforms_own_error_is_no_reason_to_replace_anything(index):
    def broken(images, keys):
        raise UnreadableImage("not one of yours", "for no reason")

    with pytest.raises(UnreadableImage, match="not one of yours"):
        steps(train_loader(index, transform=broken), 1)


def test_a_failure_of_the_machine_is_no_damage_and_replaces_nothing(index, monkeypatch):
    def no_more_files(data):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(pillow, "opened", no_more_files)
    with pytest.raises(OSError, match="Too many open files"):
        steps(train_loader(index), 1)


@pytest.mark.parametrize("count", [3, 12])
def test_nothing_but_damage_is_an_error_and_no_hang(tmp_path, count):
    index = open_shards(shards(tmp_path, count, 12, damaged=tuple(range(count))))
    with pytest.raises(ValueError, match="10 samples in a row are unreadable"):
        steps(train_loader(index, batch_size=2), 1)


@pytest.mark.parametrize("make_loader", [train_loader, eval_loader])
def test_more_than_the_share_is_an_error_that_lists_names_and_the_way_out(tmp_path, make_loader):
    """Ten are always borne; 0 bears none."""

    def read(count, **options):
        index = make(tmp_path / f"{count} of {options}", tuple(range(count)))
        with make_loader(index, **options) as loader:
            batches = list(islice(loader.batches(), 8)) if hasattr(loader, "batches") else list(loader)
        return batches, loader.skipped

    for count, options in ((0, {"max_unreadable": 0}), (10, {}), (12, {"max_unreadable": 0.6})):
        assert len(read(count, **options)[1]) == count
    with pytest.raises(ValueError, match=r"1[12] of 23 images are unreadable") as failed:
        read(12, max_unreadable=0.4)
    assert "max_unreadable 0.4 bears 10; mend these shards, or raise max_unreadable" in str(failed.value)
    assert len(re.findall(r"train-00000\d.tar, sample 00\d\d: \w+", str(failed.value))) == 5
    assert re.search(r"and [67] more", str(failed.value))
    with pytest.raises(ValueError, match="1 of 23 images are unreadable, and max_unreadable 0 bears 0"):
        read(1, max_unreadable=0)


def test_a_share_is_one(index):
    with pytest.raises(ValueError, match="max_unreadable"):
        train_loader(index, max_unreadable=1.5)
