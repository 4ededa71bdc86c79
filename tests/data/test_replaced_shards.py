"""A shard that is not the one its index was made of, or that was opened: an error, and no wrong label or pixel."""

import os
import shutil

import numpy as np
import pytest

from blocks.data import EvalLoader, EvalTransform, open_shards, write_dataset
from blocks.data.index.read import Reader
from blocks.data.writing import Item
from tests.data.pictures import encoded, picture

NAME = "train-000000.tar"


@pytest.fixture
def sets(tmp_path):
    """Two folders of as many bytes in as many shards, with other labels."""
    for name, first in (("a", 0), ("b", 1)):
        write(tmp_path / name, [(i + first) % 2 for i in range(20)])
    return tmp_path


def write(folder, labels, keys="{:04d}", metadata=None, labelled=True):
    items = [Item(keys.format(i), encoded(picture(i)), label, metadata or {}) for i, label in enumerate(labels)]
    write_dataset(items, folder, workers=0, progress=False, labelled=labelled)


def replace(folder, other, in_place=True):
    if in_place:
        (folder / NAME).write_bytes((other / NAME).read_bytes())
    else:
        shutil.copy(other / NAME, folder / "new")
        os.replace(folder / "new", folder / NAME)


def test_a_shard_of_equal_length_and_other_labels_is_refused_with_what_to_do(sets):
    replace(sets / "a", sets / "b")
    assert (sets / "a" / NAME).stat().st_size == (sets / "b" / NAME).stat().st_size
    told = (
        rf"{NAME} is not the shard that .*index\.json was written with: of sample 0 it says label 1 .*, "
        r"the index label 0 .*; fetch or write both again, or delete .*index\.json: the shards are then scanned"
    )
    with pytest.raises(ValueError, match=told):
        open_shards(sets / "a")
    for name in ("index.json", "_info.json"):
        (sets / "a" / name).unlink()
    assert open_shards(sets / "a").label[:2].tolist() == [1, 0]


@pytest.mark.parametrize("place", [0, 10, 19])
def test_its_first_middle_and_last_samples_are_looked_at(tmp_path, place):
    write(tmp_path / "a", range(20))
    stored = np.load(tmp_path / "a" / "train-samples.npy")[2]  # they are shuffled when they are written
    write(tmp_path / "b", [label + 20 * (label == stored[place]) for label in range(20)])
    replace(tmp_path / "a", tmp_path / "b")
    with pytest.raises(ValueError, match=rf"of sample {place} it says label {stored[place] + 20} .* the index label"):
        open_shards(tmp_path / "a")


def test_what_is_no_tar_at_that_place_is_told_as_well(sets):
    path = sets / "a" / NAME
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(ValueError, match=f"{NAME} is not the shard .*of sample 0 it says nothing, the index label 0"):
        open_shards(sets / "a")


@pytest.mark.parametrize("metadata", [{}, {"taken": "today"}])
@pytest.mark.parametrize("labelled", [True, False])
def test_sound_shards_pass_whatever_lies_between_their_pictures(tmp_path, metadata, labelled):
    write(tmp_path / "a", [0, 1, 0, 1, 1] if labelled else [None] * 5, "k/{}", metadata, labelled)
    assert len(open_shards(tmp_path / "a", need_labels=False)) == 5


@pytest.mark.parametrize("read_before", [False, True])
def test_a_shard_that_is_overwritten_while_it_is_read_is_an_error(sets, read_before):
    reader = Reader(open_shards(sets / "a"))
    if read_before:
        reader.read(0)
    replace(sets / "a", sets / "b")
    with pytest.raises(OSError, match=rf"{NAME} changed since it was opened; open the shards again"):
        reader.read(1)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_gives_that_error_as_it_is(sets, workers):
    index = open_shards(sets / "a")
    replace(sets / "a", sets / "b", in_place=False)
    with (
        EvalLoader(index, batch_size=20, num_classes=2, transform=EvalTransform(8), num_workers=workers) as loader,
        pytest.raises(OSError, match="changed since it was opened") as caught,
    ):
        next(iter(loader))
    assert str(caught.value) == f"{sets / 'a' / NAME} changed since it was opened; open the shards again"


def test_a_shard_that_has_another_name_now_is_read_on(sets):
    """What is open stays what it was."""
    reader = Reader(open_shards(sets / "a"))
    wanted = reader.read(1)
    replace(sets / "a", sets / "b", in_place=False)
    assert reader.read(1) == wanted


def test_other_rights_are_no_other_shard(sets):
    reader = Reader(open_shards(sets / "a"))
    (sets / "a" / NAME).chmod(0o400)
    os.link(sets / "a" / NAME, sets / "a" / "other")
    assert reader.read(0)
