"""From image folders to samples, and what is no source."""

from tests.data.pictures import encoded, picture
from tests.data.writing.made import image_folder, refused, write


def test_a_folder_of_train_and_val_is_both_splits(tmp_path):
    """And not two classes of these names."""
    for split, count in (("train", 3), ("val", 2)):
        image_folder(tmp_path / "images" / split, count=count)
    written = write(tmp_path / "images", tmp_path / "out")
    assert {split: one.samples_per_class for split, one in written.items()} == {"train": [3, 3, 3], "val": [2, 2, 2]}
    assert write(str(tmp_path / "images"), tmp_path / "one", split="val")["val"].samples_per_class == [2, 2, 2]


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
