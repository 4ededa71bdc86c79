"""Pictures kept decoded are the pictures that a loader without them gives."""

import pickle
import shutil
from collections import namedtuple
from itertools import islice

import numpy as np
import pytest
import torch

from blocks.data import EvalLoader, EvalTransform, MultiCrop, TrainLoader, TrainTransform, open_shards
from blocks.data.decode import Encoded
from blocks.data.loading.kept import keep, open_kept
from blocks.data.loading.kept_reader import KEEPS
from blocks.data.writing.writer import write_shards
from tests.data.pictures import encoded, picture, shards
from tests.data.server import serving

COUNT = 21
DEVICE = TrainTransform(8, home="device", canvas=10)
CROPS = MultiCrop((TrainTransform(8), TrainTransform(6)), home="device")


def samples(damaged=()):
    for i in range(COUNT):
        data = encoded(picture(i))
        yield {"__key__": f"{i:04d}", "png": data[:60] if i in damaged else data, "cls": str(i).encode()}


def written(folder, damaged=()):
    return open_shards([folder / shard["name"] for shard in write_shards(samples(damaged), folder, "train", 8)])


@pytest.fixture
def index(tmp_path):
    """All of one size."""
    return written(tmp_path)


@pytest.fixture
def odd(tmp_path):
    """Of many sizes."""
    return open_shards(shards(tmp_path, COUNT, 8, num_classes=COUNT))


def train(index, transform, **options):
    options = {"batch_size": 6, "seed": 3, "num_classes": COUNT, "transform": transform, **options}
    with TrainLoader(index, **options) as loader:
        return list(islice(loader.batches(), 5)), loader.skipped


def evaluated(index, **options):
    with EvalLoader(index, batch_size=6, num_classes=COUNT, transform=EvalTransform(8), **options) as loader:
        return [list(loader) for _ in range(2)], loader.skipped


def assert_equal(found, wanted):
    for mine, other in zip(found, wanted, strict=True):
        assert mine.keys() == other.keys()
        assert all(torch.equal(mine[name], other[name]) for name in mine)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("where", ["disk", "memory"])
def test_whole_pictures_train_as_stored_ones_do(index, where, num_workers):
    transform = TrainTransform(8, policy="rand-m9-mstd0.5-inc1")
    wanted, _ = train(index, transform, repeats=2)
    assert_equal(train(index, transform, repeats=2, decoded=where, num_workers=num_workers)[0], wanted)


@pytest.mark.parametrize("where", KEEPS)
@pytest.mark.parametrize("transform", [DEVICE, CROPS], ids=["one view", "crops"])
def test_canvases_train_as_those_that_are_cut_anew(odd, where, transform):
    assert_equal(train(odd, transform, decoded=where)[0], train(odd, transform)[0])


@pytest.mark.parametrize("where", KEEPS)
def test_evaluation_sees_the_same_pictures(odd, where):
    (once, again), _ = evaluated(odd)
    (kept, and_again), _ = evaluated(odd, decoded=where)
    assert_equal(kept, once)
    assert_equal(and_again, again)


def test_on_the_device_no_workers_are_started(odd):
    loader = TrainLoader(odd, batch_size=6, num_classes=COUNT, transform=DEVICE, decoded="device", num_workers=2)
    assert loader._hands(loader._keeping()) == 0
    assert_equal(list(islice(loader.batches(), 2)), list(islice(loader.batches(), 2)))


def test_a_later_run_decodes_nothing(odd, monkeypatch):
    wanted, _ = train(odd, DEVICE, decoded="disk")
    monkeypatch.setattr(Encoded, "pixels", None)
    monkeypatch.setattr(Encoded, "rgb", None)
    assert_equal(train(odd, DEVICE, decoded="memory")[0], wanted)


def test_what_is_kept_of_fetched_shards_is_found_again_without_a_fetch(tmp_path, odd):
    paths = sorted(tmp_path.glob("*.tar"))
    with serving({path.name: path.read_bytes() for path in paths}) as server:
        away = open_shards([f"{server.url}/{path.name}" for path in paths])
        folder = keep(away, DEVICE.cut)
        for shard in away.shards:
            shard.discard()
        server.asked.clear()
        assert keep(away, DEVICE.cut) == folder
        assert not server.asked


def test_other_shards_and_another_canvas_are_kept_apart(tmp_path, index):
    other = written(tmp_path / "other")
    assert len({keep(index), keep(other), keep(index, DEVICE.cut), keep(index, EvalTransform(8))}) == 4
    assert keep(index) == keep(index)


@pytest.mark.parametrize("where", KEEPS)
def test_unreadable_pictures_are_replaced_and_named_as_ever(tmp_path, where):
    index = written(tmp_path, damaged=(4, 5, 11))
    wanted, named = train(index, DEVICE)
    found, skipped = train(index, DEVICE, decoded=where)
    assert_equal(found, wanted)
    assert skipped == named
    assert len(named) == 3
    assert evaluated(index, decoded=where)[1].keys() == named.keys()


def test_whole_pictures_of_different_sizes_are_an_error(odd):
    with pytest.raises(ValueError, match=r"0001 has 6 x 6 pixels, others 5 x 5; .*home='device'"):
        train(odd, TrainTransform(8), decoded="disk")


def test_nothing_readable_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="none of 21 samples can be decoded"):
        keep(written(tmp_path, damaged=range(COUNT)))


def test_what_cannot_be_is_refused(index):
    with pytest.raises(ValueError, match="decoded='device' is for a transform with home='device'"):
        train(index, TrainTransform(8), decoded="device")
    with pytest.raises(ValueError, match="leaves decode='device' nothing to decode"):
        train(index, TrainTransform(8, home="device", decode="device"), decoded="disk")
    with pytest.raises(ValueError, match="'gpu'"):
        train(index, DEVICE, decoded="gpu")
    with pytest.raises(ValueError, match="does not say what it makes of a picture"):
        keep(index, lambda pictures: DEVICE.cut(pictures))


def test_a_disk_without_room_is_an_error_before_anything_is_decoded(index, monkeypatch, cache):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "free total")(7000, 9000))
    words = r"21 pictures of 11 x 9 pixels take 6.24e-06 GB decoded, and .* may take 6.1e-06 GB \(what leaves a tenth"
    with pytest.raises(ValueError, match=words):
        keep(index)
    assert not list((cache / "decoded").glob("*/*"))


def test_a_copy_for_another_process_reads_the_disk(index):
    kept = open_kept(keep(index), in_memory=True)
    copy = pickle.loads(pickle.dumps(kept))
    assert isinstance(copy.pixels, np.memmap)
    assert not isinstance(kept.pixels, np.memmap)
    assert np.array_equal(copy.pixels, kept.pixels)
