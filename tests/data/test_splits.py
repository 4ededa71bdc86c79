import os
import shutil

import pytest

from blocks.data import open_shards, write_dataset
from blocks.data.digits import digits
from blocks.data.splits import pretraining_shards, train_and_val
from tests.data.pictures import picture


def test_the_digits_bring_both_parts():
    train, val = train_and_val("digits", "")
    assert len(train) + len(val) == 1797
    assert train.num_classes == val.num_classes == 10


def test_shards_are_opened_as_they_are_named():
    train_path, val_path = digits()
    train, val = train_and_val(train_path, val_path)
    assert len(train) > len(val) > 0


def test_a_folder_may_hold_both():
    folder = digits()[0].rpartition("/")[0]
    train, val = train_and_val(folder, "")
    assert (len(train), len(val)) == tuple(len(open_shards(part)) for part in digits())


def test_a_folder_without_one_of_them_is_refused(tmp_path):
    write_dataset([("a", picture(0), 0, {}), ("b", picture(1), 1, {})], tmp_path, workers=0, progress=False)
    with pytest.raises(
        ValueError,
        match=r"holds train alone, .*: name other shards by --val, or write .* --val-share",
    ):
        train_and_val(str(tmp_path), "")


def test_validation_shards_that_cannot_be_opened_are_told_as_what_they_are(tmp_path):
    """Not as if there were none."""
    folder = both(tmp_path / "a", labelled=True)
    with pytest.raises(FileNotFoundError, match=r"no shard matches .*/vall-"):
        train_and_val(pictures(tmp_path / "b", labelled=True), f"{folder}/vall-*.tar")
    (tmp_path / "a" / "val-000000.tar").write_bytes(b"")
    for read in (train_and_val, pretraining_shards):
        with pytest.raises(ValueError, match=r"val-000000\.tar has 0 bytes, .*index\.json says"):
            read(folder, "")


@pytest.mark.parametrize(
    ("data", "val", "flag"), [("nothing", "", "--data nothing"), ("digits/x", "nothing", "--data digits/x")]
)
def test_what_is_not_there_is_told_before_all_else(tmp_path, monkeypatch, data, val, flag):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"{flag}: no such folder or shards"):
        train_and_val(data, val)
    (tmp_path / "there.tar").touch()
    with pytest.raises(FileNotFoundError, match="--val nothing: no such folder or shards"):
        train_and_val("there.tar", "nothing")


def test_of_a_folder_of_both_splits_each_flag_takes_its_own(tmp_path):
    train_path, val_path = digits()
    folder = train_path.rpartition("/")[0]
    sizes = len(open_shards(train_path)), len(open_shards(val_path))
    for data, val in ((folder, folder), (train_path, folder), (folder, val_path), (f"file://{folder}", f"{folder}/")):
        assert tuple(map(len, train_and_val(data, val))) == sizes
        assert tuple(map(len, pretraining_shards(data, val))) == sizes


def test_so_does_each_of_shards_without_an_index(tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(os.path.dirname(digits()[0]), folder)
    for name in ("index.json", "_info.json"):
        (folder / name).unlink()
    train, val = train_and_val(str(folder), str(folder))
    assert (len(train.shards), len(val.shards)) == (6, 2)


def test_a_folder_of_one_split_is_taken_by_whatever_flag(tmp_path):
    """What a list became is the split train by default."""
    for name in ("a", "b"):
        pictures(tmp_path / name, labelled=True)
    train, val = train_and_val(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (len(train), len(val)) == (4, 4)


def test_a_folder_of_both_splits_given_as_one_is_told_as_both_callers_write_it():
    folder = digits()[0].rpartition("/")[0]
    told = r"splits train, val; take one: by its shards, .*train-000000.tar \.\.\., by split='train' in Python, by "
    told += "--split train where a command has it; recipes take a folder with train and val as --data alone"
    with pytest.raises(ValueError, match=told):
        open_shards(folder)


@pytest.mark.parametrize(
    ("data", "val", "common"),
    [("*.tar", "val-*.tar", "val-0.*first of 2"), ("train-*.tar", "train-*.tar", "train-0.*first of 6")],
)
def test_validation_shards_among_the_training_shards_are_refused(tmp_path, data, val, common):
    shutil.copytree(os.path.dirname(digits()[0]), tmp_path / "set")
    told = rf"--data .* and --val .* both hold .*{common}.*; .* give --data the others alone"
    with pytest.raises(ValueError, match=told):
        train_and_val(f"{tmp_path}/set/{data}", f"{tmp_path}/set/{val}")
    train, val = train_and_val(f"{tmp_path}/set/train-*.tar", f"{tmp_path}/set/val-*.tar")
    assert (len(train.shards), len(val.shards)) == (6, 2)


def test_the_same_shard_by_a_link_is_the_same_shard(tmp_path):
    train_path, val_path = digits()
    (tmp_path / "link").symlink_to(os.path.dirname(train_path))
    with pytest.raises(ValueError, match=r"both hold .*train-000000.tar"):
        train_and_val(train_path, f"{tmp_path}/link/train-000000.tar")
    assert len(train_and_val(train_path, f"{tmp_path}/link/{os.path.basename(val_path)}")[1].shards) == 2


@pytest.mark.parametrize("inside", ["cat", "train/cat", "."])
def test_a_folder_of_images_leads_to_the_conversion(tmp_path, inside):
    (tmp_path / inside).mkdir(parents=True, exist_ok=True)
    picture(0).save(tmp_path / inside / "a.png")
    with pytest.raises(FileNotFoundError, match=rf"python -m blocks.data.shards {tmp_path} shards/"):
        train_and_val(str(tmp_path), "")


@pytest.mark.parametrize(("data", "val"), [("some-*.tar", ""), ("digits", "some-*.tar")])
def test_one_without_the_other_is_refused(data, val):
    with pytest.raises(ValueError, match="--val"):
        train_and_val(data, val)


def test_one_class_alone_is_refused(tmp_path):
    parts = [str(tmp_path / part) for part in ("train", "val")]
    for part in parts:
        write_dataset([("a", picture(0), 0, {}), ("b", picture(1), 0, {})], part, workers=0, progress=False)
    with pytest.raises(ValueError, match="has one class alone, and nothing to tell it from: give each class a folder"):
        train_and_val(*parts)
    assert pretraining_shards(*parts)[0].num_classes == 1


def test_other_classes_are_refused(tmp_path):
    train_path, val_path = digits()
    folder = tmp_path / "copy"
    shutil.copytree(val_path.rpartition("/")[0], folder)
    manifest = folder / "index.json"
    manifest.write_text(manifest.read_text().replace('"0"', '"nought"', 1))
    with pytest.raises(ValueError, match=r"--data .* and --val .* different classes \(0 is '0' and 'nought'\); write"):
        train_and_val(train_path, str(folder / val_path.rpartition("/")[2]))


# --- pretraining ---


def pictures(folder, labelled=False, split="train", count=4):
    """Shards of one split beside others."""
    items = [(f"{i}", picture(i), i % 2) for i in range(count)]
    write_dataset({split: items}, folder, workers=0, progress=False, labelled=labelled)
    return str(folder)


def both(folder, labelled):
    """Shards of train and of val, with labels or without."""
    items = {split: [(f"{i}", picture(i), i % 2) for i in range(4)] for split in ("train", "val")}
    write_dataset(items, folder, workers=0, progress=False, labelled=labelled)
    return str(folder)


def test_pretraining_has_the_digits_as_all_recipes():
    train, val = pretraining_shards("digits", "")
    assert (len(train), len(val)) == tuple(len(part) for part in train_and_val("digits", ""))
    with pytest.raises(ValueError, match="leave out --val"):
        pretraining_shards("digits", "x.tar")


@pytest.mark.parametrize("name", ["", "train-*.tar", "train-000000.tar"])
def test_pictures_without_labels_need_no_validation_shards(tmp_path, name):
    folder = pictures(tmp_path / "a")
    train, val = pretraining_shards(f"{folder}/{name}" if name else folder, "")
    assert not train.labelled
    assert len(train) == 4
    assert val is None


def test_a_folder_of_plain_tars_by_any_name_will_do(tmp_path):
    folder = pictures(tmp_path / "a", split="part")
    for name in ("index.json", "_info.json"):
        (tmp_path / "a" / name).unlink()
    assert len(pretraining_shards(folder, "")[0]) == 4


def test_labelled_validation_shards_may_have_classes_of_their_own(tmp_path):
    train, val = pretraining_shards(pictures(tmp_path / "a"), pictures(tmp_path / "b", labelled=True))
    assert not train.labelled
    assert val.num_classes == 2
    with pytest.raises(ValueError, match="none of 4 samples has a label"):
        pretraining_shards(pictures(tmp_path / "c"), pictures(tmp_path / "d"))


@pytest.mark.parametrize(("val", "why"), [("b/vall-*.tar", "no shard matches"), ("both", "holds the splits train")])
def test_a_val_that_is_named_and_wrong_is_an_error_also_beside_pictures_without_labels(tmp_path, val, why):
    items = [(f"{i}", picture(i), i % 2) for i in range(4)]
    write_dataset({"train": items, "test": items}, tmp_path / "both", workers=0, progress=False)
    pictures(tmp_path / "b", labelled=True)
    with pytest.raises((ValueError, FileNotFoundError), match=why):
        pretraining_shards(pictures(tmp_path / "a"), str(tmp_path / val))


def test_a_folder_with_both_splits_and_no_label_in_either(tmp_path):
    train, val = pretraining_shards(both(tmp_path / "a", labelled=False), "")
    assert len(train) == 4
    assert val is None


def test_a_folder_s_labelled_val_is_taken_beside_a_train_without_labels(tmp_path):
    for split, labelled in (("train", False), ("val", True)):
        pictures(tmp_path / split, labelled, split)
        shutil.copy(tmp_path / split / f"{split}-000000.tar", tmp_path)
    train, val = pretraining_shards(str(tmp_path), "")
    assert not train.labelled
    assert val.label.tolist() == [0, 1, 0, 1]


def test_labelled_training_shards_want_validation_shards_that_agree(tmp_path):
    assert pretraining_shards(both(tmp_path / "a", labelled=True), "")[1].num_classes == 2
    with pytest.raises(ValueError, match="has labels and needs --val"):
        pretraining_shards(f"{tmp_path}/a/train-*.tar", "")
    with pytest.raises(ValueError, match="label 1 is not one of 1 classes"):
        pretraining_shards(pictures(tmp_path / "b", labelled=True, count=1), f"{tmp_path}/a/val-*.tar")


def test_other_recipes_refuse_pictures_without_labels_and_say_where_they_belong(tmp_path):
    folder = pictures(tmp_path / "a")
    with pytest.raises(ValueError, match=r"none of 4 samples has a label: .*; images alone are for recipes/pre"):
        train_and_val(folder, folder)
