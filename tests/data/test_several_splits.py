"""A folder or URL of several splits, with and without an index: never two of them as one."""

import fsspec
import pytest

from blocks.data.index.index import open_shards
from blocks.data.index.patterns import names_folder
from blocks.data.splits import pretraining_shards, train_and_val
from blocks.data.storage import Retries
from tests.data.indexed import write_index
from tests.data.pictures import encoded, picture, shards, tar

PNG = encoded(picture(0))


@pytest.fixture
def memory():
    store = fsspec.filesystem("memory")
    yield store
    store.store.clear()


def folder_of(folder, *names):
    for name in names:
        tar(folder / name, [(f"{i}.{end}", data) for i in range(2) for end, data in (("png", PNG), ("cls", b"%d" % i))])
    return folder


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("train-0.tar", "val-0.tar"), "the splits train, val; .*/train-0.tar ..., by split='train'"),
        (("imagenet-train-0.tar", "imagenet-validation-0.tar"), "the splits train, val; "),
        (("0.tar", "test.0.tar"), "the splits test and others; .*/test.0.tar"),
        (("train0.tar", "train1.tar", "Val0.tar"), "the splits train, val; "),
    ],
)
def test_a_folder_without_an_index_that_holds_several_splits_wants_to_know_which(tmp_path, names, told):
    folder_of(tmp_path, *names)
    with pytest.raises(ValueError, match=told):
        open_shards(tmp_path)


def test_a_recipe_s_training_set_without_a_train_wants_to_know_too(tmp_path):
    folder_of(tmp_path, "0.tar", "test.0.tar")
    with pytest.raises(ValueError, match="the splits test and others"):
        train_and_val(str(tmp_path), f"{tmp_path}/test.0.tar")


def test_a_folder_s_train_is_trained_on_beside_whatever_val(tmp_path):
    folder_of(tmp_path, "train0.tar", "train1.tar", "Val0.tar")
    train, val = train_and_val(str(tmp_path), f"{tmp_path}/Val0.tar")
    assert (len(train.shards), len(val.shards)) == (2, 1)


def test_of_one_set_by_many_names_none_is_left_out(tmp_path):
    (tmp_path / "val").mkdir()
    data, val = folder_of(tmp_path, "train-0.tar", "extra-0.tar"), folder_of(tmp_path / "val", "val-0.tar")
    assert len(train_and_val(str(data), str(val))[0].shards) == 2


def test_that_folder_gives_the_split_that_is_named(tmp_path):
    folder_of(tmp_path, "train-0.tar", "train-1.tar", "val-0.tar")
    assert len(open_shards(tmp_path, split="train").shards) == 2
    assert [len(part.shards) for part in train_and_val(str(tmp_path), "")] == [2, 1]
    assert len(open_shards(f"{tmp_path}/*.tar").shards) == 3  # every one of them was named


@pytest.mark.parametrize(
    "names",
    [
        ("cat.tar", "contest.tar", "validated.tar"),
        ("0.tar", "1.tar"),
        ("val-0.tar", "val-1.tar"),
        ("train-0.tar", "extra-0.tar"),
    ],
)
def test_other_names_in_a_folder_are_of_one_set(tmp_path, names):
    assert len(open_shards(folder_of(tmp_path, *names)).shards) == len(names)


def test_the_name_of_a_split_may_stand_anywhere_in_the_names_of_its_shards(tmp_path):
    folder_of(tmp_path, "set-train-0.tar", "set-train-1.tar", "set-validation-0.tar")
    for both in (train_and_val, pretraining_shards):
        assert [len(part.shards) for part in both(str(tmp_path), "")] == [2, 1]
    assert len(open_shards(tmp_path, split="validation").shards) == 1


@pytest.mark.parametrize("way", ["train-0.tar", "train-*.tar", "train-{0..0}.tar", "pipe"])
def test_a_split_of_what_is_no_folder_is_refused(tmp_path, way):
    folder_of(tmp_path, "train-0.tar")
    name = f"pipe:cat {tmp_path}/train-0.tar" if way == "pipe" else f"{tmp_path}/{way}"
    assert len(open_shards(name)) == 2
    with pytest.raises(ValueError, match=r"train-.*tar is no folder with the split val; "):
        open_shards(name, split="val")


def test_an_object_stores_folder_may_have_a_dot_in_its_name(tmp_path, memory):
    shards(tmp_path, 4, 2)
    write_index(tmp_path)
    for path in tmp_path.iterdir():
        for folder in ("set", "set.v1"):
            memory.pipe(f"/{folder}/{path.name}", path.read_bytes())
    memory.pipe("/set/file.dat", (tmp_path / "train-000000.tar").read_bytes())
    for name in ("set", "set.v1", "set.v1/"):
        assert names_folder(f"memory://{name}")
        assert len(open_shards(f"memory://{name}", split="train")) == 4
    quick = Retries(attempts=1)
    for name in ("set/file.dat", "set/train-000000.tar"):
        assert not names_folder(f"memory://{name}")
        assert len(open_shards(f"memory://{name}", retries=quick)) == 2
        with pytest.raises(ValueError, match="no folder with the split train"):
            open_shards(f"memory://{name}", split="train")
