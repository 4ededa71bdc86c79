"""From image folders to samples, and what is no source."""

import pytest

from blocks.data import open_shards
from blocks.data import shards as command
from blocks.data.splits import pretraining_shards, train_and_val
from tests.data.pictures import encoded, picture
from tests.data.writing.made import image_folder, members, refused, write


def test_a_folder_of_train_and_val_is_both_splits(tmp_path):
    """And not two classes of these names."""
    for split, count in (("train", 3), ("val", 2)):
        image_folder(tmp_path / "images" / split, count=count)
    written = write(tmp_path / "images", tmp_path / "out")
    assert {split: one.samples_per_class for split, one in written.items()} == {"train": [3, 3, 3], "val": [2, 2, 2]}
    assert write(str(tmp_path / "images"), tmp_path / "one", split="val")["val"].samples_per_class == [2, 2, 2]


def test_a_test_folder_beside_train_and_val_is_a_split_too(tmp_path):
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        image_folder(tmp_path / "images" / split, count=count)
    written = write(tmp_path / "images", tmp_path / "out")
    assert {split: one.samples_per_class[0] for split, one in written.items()} == {"train": 3, "val": 2, "test": 1}
    assert [len(index) for index in train_and_val(str(tmp_path / "out"), "")] == [9, 6]
    assert [len(index) for index in pretraining_shards(str(tmp_path / "out"), "")] == [9, 6]
    assert len(open_shards(tmp_path / "out", split="test")) == 3
    with pytest.raises(ValueError, match="train, val, test"):
        open_shards(tmp_path / "out")


@pytest.mark.parametrize("others", [("train", "val", "test"), ("train", "test")])
def test_the_split_that_is_named_is_taken_of_all_that_are_there(tmp_path, others):
    for split in others:
        image_folder(tmp_path / "images" / split, count=1)
    assert write(tmp_path / "images", tmp_path / "out", split="test")["test"].samples_per_class == [1, 1, 1]


def test_a_split_that_is_named_and_has_no_classes_is_refused_with_those_that_have(tmp_path):
    for split in ("train", "val"):
        image_folder(tmp_path / "images" / split, count=1)
    (tmp_path / "images" / "test").mkdir()
    refused("has class folders in train, val; split test is none of them", tmp_path / "images", tmp_path, split="test")


def test_a_test_folder_of_other_classes_is_refused_with_a_way_out(tmp_path):
    for split in ("train", "val"):
        image_folder(tmp_path / "images" / split, count=1)
    image_folder(tmp_path / "images" / "test", classes=("images",), count=1)
    refused("train and test differ in classes: .*; .*one by one, by --split", tmp_path / "images", tmp_path)
    write(tmp_path / "images", tmp_path / "out", split="train")


def test_what_else_lies_in_a_folder_of_splits_is_named(tmp_path, capsys):
    root = tmp_path / "images"
    for split in ("train", "val"):
        image_folder(root / split, count=1)
    for folder in ("test", "extra", "__MACOSX", ".hidden"):
        (root / folder).mkdir()
    (root / "test" / "0.png").write_bytes(encoded(picture(0)))
    (root / "labels.csv").write_text("path,label")
    assert command.main([str(root), str(tmp_path / "out"), "--workers", "0"]) == 0
    assert "not converted, for it is none of train, val: extra/, labels.csv, test/\n" in capsys.readouterr().out
    assert command.main([str(root), str(tmp_path / "one"), "--workers", "0", "--split", "val"]) == 0
    assert "not converted" not in capsys.readouterr().out


def test_archives_leave_a_folder_that_is_no_class(tmp_path):
    folder = image_folder(tmp_path / "images", classes=("cat", "dog"), count=1)
    (folder / "__MACOSX" / "cat").mkdir(parents=True)
    (folder / "__MACOSX" / "cat" / "._0.png").write_bytes(b"of a Mac")
    (folder / ".cache").mkdir()
    assert write(folder, tmp_path / "out")["train"].source.classes == ("cat", "dog")


@pytest.mark.parametrize("extension", ["jfif", "jpe", "JPEG"])
def test_every_name_of_a_jpeg_is_a_picture_and_stored_as_one(tmp_path, extension):
    folder = image_folder(tmp_path / "images", classes=("cat", "dog"), count=1)
    (folder / "cat" / f"photo.{extension}").write_bytes(encoded(picture(5), "jpeg"))
    assert write(folder, tmp_path / "out")["train"].samples_per_class == [2, 1]
    assert [name for name in members(tmp_path / "out/train-000000.tar") if name.endswith("photo.jpg")]


@pytest.mark.parametrize("out", ["images/shards", "images", "images/cat/more", "link/shards"])
def test_shards_are_not_written_among_the_pictures_they_are_made_of(tmp_path, out):
    """The next conversion would take their folder for a class, and an interrupted one could not go on."""
    folder = image_folder(tmp_path / "images", count=1)
    (tmp_path / "link").symlink_to(folder)
    before = sorted(folder.rglob("*"))
    for source in (folder, {"train": folder}, str(tmp_path / "link")):
        with pytest.raises(ValueError, match=f"{out} lies in .*, which is converted; give a folder beside it"):
            write(source, tmp_path / out)
    assert sorted(folder.rglob("*")) == before


def test_shards_may_lie_beside_the_list_they_are_made_of(tmp_path):
    image_folder(tmp_path / "images", count=1)
    (tmp_path / "list.csv").write_text("path,label\nimages/cat/deep/0.png,0\n")
    write(tmp_path / "list.csv", tmp_path / "shards")


def test_pictures_behind_links_are_taken_and_hidden_ones_are_not(tmp_path):
    folder = image_folder(tmp_path / "images", classes=("cat", "dog"), count=2)
    elsewhere = image_folder(tmp_path / "elsewhere", classes=("more",), count=3)
    (folder / "cat" / "more").symlink_to(elsewhere / "more")
    (folder / "cat" / "deep" / "round").symlink_to(folder / "cat")
    (folder / "dog" / ".thumbnails").mkdir()
    (folder / "dog" / ".thumbnails" / "0.png").write_bytes(encoded(picture(0)))
    written = write(folder, tmp_path / "out")["train"]
    assert written.samples_per_class == [5, 2]
    assert written.source.ignored == ("dog/.thumbnails/0.png",)


def test_what_is_no_source_is_refused(tmp_path):
    refused("a int is no source of samples", 5, tmp_path)
    refused("no source is given", {}, tmp_path)
    refused("split 'val' is given, and the sources say theirs: train", {"train": []}, tmp_path, split="val")
    refused("split 'a/b' is part of files' names", [], tmp_path, split="a/b")
