"""From image folders, lists, datasets and iterators to samples."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, ImageFolder

from blocks.data.index.index import open_shards
from blocks.data.index.read import Reader
from blocks.data.writing import Item, Source, dataset_source, write_dataset
from tests.data.pictures import encoded, picture, read_manifest
from tests.data.writing.made import files, image_folder, members


def write(source, folder, **options):
    return write_dataset(source, folder, workers=0, progress=False, **options)


def stored(folder):
    """(label, bytes) of all samples, sorted."""
    index = open_shards(folder)
    reader = Reader(index)
    return sorted((int(index.label[i]), reader.read(i)) for i in range(len(index)))


def refused(words, source, tmp_path, **options):
    with pytest.raises(ValueError, match=words):
        write(source, tmp_path / "out", **options)


# --- lists ---

ROWS = [("a.png", "dog"), ("deep/b.jpg", "cat"), ("c.png", "dog")]


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl"])
def test_a_list_may_begin_with_a_mark_and_end_its_lines_as_windows_does(pictures, suffix):
    path = pictures / f"list.{suffix}"
    {"csv": _csv, "json": _json, "jsonl": _json_lines}[suffix](path, [*ROWS, ("a.png", "dog, big")])
    text = path.read_text(encoding="utf-8").replace("No 0", "Nö 0").replace("dog, big,", '"dog, big",')
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    write(path, pictures / "out")
    assert open_shards(pictures / "out").classes == ("cat", "dog", "dog, big")


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.png").write_bytes(encoded(picture(0)))
    (tmp_path / "deep" / "b.jpg").write_bytes(encoded(picture(1), "jpeg"))
    (tmp_path / "c.png").write_bytes(encoded(picture(2)))
    return tmp_path


def _csv(path, rows):
    path.write_text("path,label,camera\n" + "".join(f"{p},{label},No {i}\n" for i, (p, label) in enumerate(rows)))


def _objects(rows):
    return [{"path": p, "label": label, "camera": f"No {i}"} for i, (p, label) in enumerate(rows)]


def _json(path, rows):
    path.write_text(json.dumps(_objects(rows)))


def _json_lines(path, rows):
    path.write_text("\n".join(map(json.dumps, _objects(rows))) + "\n\n")


@pytest.mark.parametrize(("suffix", "make"), [("csv", _csv), ("json", _json), ("jsonl", _json_lines)])
def test_a_list_by_names_keeps_bytes_and_takes_the_rest_as_metadata(pictures, suffix, make):
    make(pictures / f"list.{suffix}", ROWS)
    write(pictures / f"list.{suffix}", pictures / "out")
    assert read_manifest(pictures / "out")["classes"] == ["cat", "dog"]
    wanted = [(label, (pictures / path).read_bytes()) for (path, _), label in zip(ROWS, (1, 0, 1), strict=True)]
    assert stored(pictures / "out") == sorted(wanted)
    found = members(pictures / "out" / "train-000000.tar")
    assert sorted(data for name, data in found.items() if name.endswith(".json")) == [
        b'{"camera": "No 0"}', b'{"camera": "No 1"}', b'{"camera": "No 2"}',
    ]  # fmt: skip


@pytest.mark.parametrize("make", [_csv, _json, _json_lines])
def test_a_list_by_numbers_has_no_class_names(pictures, make):
    path = pictures / f"list.{'csv' if make is _csv else 'json' if make is _json else 'jsonl'}"
    make(path, [(name, number) for (name, _), number in zip(ROWS, (3, 0, 10), strict=True)])
    write(path, pictures / "out", split="val")
    manifest = read_manifest(pictures / "out")
    assert manifest["classes"] == []
    assert manifest["splits"]["val"]["samples_per_class"] == [1, 0, 0, 1] + 6 * [0] + [1]


def test_a_file_of_a_list_that_is_missing_is_unreadable(pictures):
    """And counted as often as it is listed."""
    _csv(pictures / "list.csv", [*ROWS, *2 * [("gone.png", "cat")]])
    written = write(pictures / "list.csv", pictures / "out")["train"]
    assert written.unreadable == 2 * [("gone.png", "No such file or directory")]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("l.csv", "", "lists no image"),
        ("l.csv", "file,label\na.png,1\n", "line 2 has no path; its columns are file, label"),
        ("l.csv", "path,label,label\na.png,1,2\n", "has a column twice: path, label, label"),
        ("l.csv", "path,label\na.png,\n", "line 2 has no label"),
        ("l.csv", "path,label\na.png\n", r"line 2 has not as many columns as the first line \(2\)"),
        ("l.csv", "path,label\na.png,1,2\n", "line 2 has not as many columns"),
        ("l.csv", "path,label\na.png,0\nc.png,-1\n", "line 3: label -1 is no class number"),
        ("l.csv", "path,label\na.png,0\nc.png,1.5\n", "line 3: label '1.5' is no class number"),
        ("l.json", "{}", "holds a dict, not a list"),
        ("l.json", "[1]", "entry 1 is 1"),
        ("l.json", "[", "is not JSON"),
        ("l.json", '[{"path": "a", "label": 1}, {"path": "b", "label": "cat"}]', "entry 1: label 1 is no name"),
        ("l.json", '[{"path": "a", "label": 1.5}]', "entry 1: label 1.5 is no class number"),
        ("l.json", '[{"path": 5, "label": 1}]', "entry 1: path 5 is no text"),
        ("l.jsonl", '{"path": "a", "label": 1}\n{"path"', "line 2 is not JSON"),
    ],
)
def test_a_list_with_a_mistake_says_where(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    refused(words, tmp_path / name, tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_list_in_another_alphabet_is_refused_unless_it_is_utf8(tmp_path):
    (tmp_path / "l.csv").write_bytes("path,label\nä.png,0\n".encode("latin-1"))
    refused("is not UTF-8", tmp_path / "l.csv", tmp_path)


# --- folders ---


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


# --- datasets ---


def test_an_image_folder_dataset_gives_the_shards_of_its_folder(tmp_path):
    folder = image_folder(tmp_path / "images")
    write(ImageFolder(folder, transform=lambda image: image.rotate(90)), tmp_path / "dataset")
    write(folder, tmp_path / "folder")
    assert files(tmp_path / "dataset") == files(tmp_path / "folder")


def test_an_image_folder_datasets_change_of_labels_is_kept(tmp_path):
    dataset = ImageFolder(image_folder(tmp_path / "images"), target_transform=lambda label: 2 - label)
    assert sorted(write(dataset, tmp_path / "out")["train"].table[2]) == 5 * [0] + 5 * [1] + 5 * [2]
    assert stored(tmp_path / "out")[0][1] in [path.read_bytes() for path in (tmp_path / "images/owl").rglob("*.*")]


class Tiny(CIFAR10):
    """CIFAR10 as torchvision holds it, without its files."""

    def __init__(self, count, **options):
        self.data = np.stack([np.asarray(picture(i, 32, 32)) for i in range(count)])
        self.targets = [i % 3 for i in range(count)]
        self.classes = ["cat", "dog", "owl"]
        self.transform, self.target_transform = options.get("transform"), None


@pytest.mark.parametrize("workers", [0, 2])
def test_cifar_is_stored_without_loss(tmp_path, workers):
    dataset = Tiny(40)
    write_dataset({"train": dataset, "val": Tiny(3)}, tmp_path, workers=workers)
    assert read_manifest(tmp_path)["classes"] == dataset.classes
    index = open_shards(tmp_path, split="train")
    reader = Reader(index)
    found = [(np.asarray(reader.image(i)).tolist(), int(index.label[i])) for i in range(40)]
    assert sorted(found) == sorted(zip(dataset.data.tolist(), dataset.targets, strict=True))
    assert index.label.tolist() != dataset.targets


def test_a_dataset_with_a_transform_to_tensors_is_refused(tmp_path):
    to_tensor = lambda image: torch.from_numpy(np.asarray(image).copy())  # noqa: E731
    refused("of the dataset is a Tensor, not a picture", Tiny(3, transform=to_tensor), tmp_path)


def test_a_path_that_no_file_can_have_is_unreadable(pictures):
    (pictures / "l.json").write_text(json.dumps(_objects([*ROWS, ("a\0.png", "cat")])))
    (left_out,) = write(pictures / "l.json", pictures / "out")["train"].unreadable
    assert left_out == ("a\0.png", "embedded null byte")


def test_a_number_of_very_many_digits_is_named_with_its_line(pictures):
    _csv(pictures / "l.csv", [("a.png", "9" * 5000)])
    refused(r"l\.csv, line 2: label '999.* is no class number", pictures / "l.csv", pictures)


def test_a_subset_of_files_has_the_class_names_and_the_bytes_of_the_whole(tmp_path):
    whole = ImageFolder(image_folder(tmp_path / "images"), target_transform=lambda label: 2 - label)
    part = torch.utils.data.Subset(torch.utils.data.Subset(whole, [14, 0, 7, 3]), torch.tensor([2, 0]))
    write(part, tmp_path / "out")
    assert open_shards(tmp_path / "out").classes == ("cat", "dog", "owl")
    wanted = [(2 - whole.targets[i], Path(whole.samples[i][0]).read_bytes()) for i in (7, 14)]
    assert stored(tmp_path / "out") == sorted(wanted)


def test_a_subset_of_pictures_has_the_class_names_of_the_whole(tmp_path):
    whole = Tiny(9)
    write(torch.utils.data.Subset(whole, [8, 1, 2]), tmp_path / "out")
    index = open_shards(tmp_path / "out")
    assert list(index.classes) == whole.classes
    assert sorted(index.label) == sorted(whole.targets[i] for i in (8, 1, 2))


def test_other_subsets_of_one_data_set_are_other_sources():
    identities = {dataset_source(torch.utils.data.Subset(Tiny(9), rows)).identity for rows in ([0, 1], [1, 0], [1, 2])}
    assert len(identities) == 3


class Paths:
    """A map-style dataset of (path, label), one of them not there."""

    def __init__(self, folder):
        self.paths = [*sorted(folder.rglob("*.png")), folder / "gone.png"]

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        if i >= len(self.paths):
            raise IndexError
        return self.paths[i], torch.tensor(i)


def test_a_dataset_of_paths_gives_their_bytes(tmp_path):
    dataset = Paths(image_folder(tmp_path / "images"))
    written = write(dataset, tmp_path / "out")["train"]
    wanted = [(i, path.read_bytes()) for i, path in enumerate(dataset.paths[:-1])]
    assert stored(tmp_path / "out") == wanted
    assert written.unreadable == [(f"sample {len(wanted)}", "No such file or directory")]


def test_a_damaged_file_behind_a_dataset_is_unreadable(tmp_path):
    folder = image_folder(tmp_path / "images")
    (folder / "cat" / "1.JPEG").write_bytes(b"no image")

    class Opened(Paths):
        def __getitem__(self, i):
            return ImageFolder(folder).loader(folder / "cat" / f"{i + 1}.{'JPEG' if i % 2 == 0 else 'png'}"), 0

        def __len__(self):
            return 3

    written = write(Opened(folder), tmp_path / "out")["train"]
    [(name, reason)] = written.unreadable
    assert name == "sample 0"
    assert "cannot identify image" in reason


# --- iterators ---


def test_an_iterator_gives_bytes_paths_pictures_and_arrays(tmp_path):
    jpeg = encoded(picture(0), "jpeg")
    (tmp_path / "a.WEBP").write_bytes(encoded(picture(1), "webp"))
    grey = np.asarray(picture(3, mode="L"))
    source = [
        ("bytes", jpeg, 0),
        ("path", str(tmp_path / "a.WEBP"), 1, {"b": 1, "a": None}),
        ("a/picture", picture(2, mode="RGBA"), np.int64(2)),
        (None, grey, 3),
    ]
    write(iter(source), tmp_path / "out")
    found = members(tmp_path / "out" / "train-000000.tar")
    assert list(found) == [
        "bytes.cls", "bytes.jpg", "path.cls", "path.json", "path.webp",
        "a/picture.cls", "a/picture.png", "00000003_sample_3.cls", "00000003_sample_3.png",
    ]  # fmt: skip
    assert found["bytes.jpg"] == jpeg
    assert found["path.webp"] == (tmp_path / "a.WEBP").read_bytes()
    assert found["path.json"] == b'{"a": null, "b": 1}'
    reader = Reader(open_shards(tmp_path / "out"))
    assert np.array_equal(reader.image(2), picture(2))
    assert np.array_equal(np.asarray(reader.image(3))[..., 0], grey)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (("a", b"", -1), "a: label -1 is no class number"),
        (("a", b"", 1 << 24), "a: label 16777216 is no class number"),
        (("a", b"", "3"), "a: label '3' is no class number"),
        (("a", b"", 1.0), "a: label 1.0 is no class number"),
        (("a.b", b"", 1), "key 'a.b' does not fit a shard; .*'a_b' would do"),
        (("../a", b"", 1), "does not fit a shard"),
        (("/a", b"", 1), "does not fit a shard"),
        (("a" * 91, b"", 1), "at most 90"),
        (("a", 5, 1), "a: a int is no picture"),
        (("a", np.zeros((3, 8, 8), np.uint8), 1), r"a: array uint8 \[3, 8, 8\]"),
        (("a", np.zeros((8, 8), np.float32), 1), r"a: array float32 \[8, 8\]"),
        (("a", encoded(picture(0)), 1, {"x": {1}}), "a: metadata is not what JSON holds"),
        (("a", encoded(picture(0)), 1, {"x": float("nan")}), "a: metadata is not what JSON holds"),
        (("k", encoded(picture(0)), 0), "key 'k' is given twice, the second time to sample 1"),
        (("a", b""), "gives a tuple of 2 as sample 1"),
        ("a", "gives a str as sample 1"),
    ],
)
def test_a_sample_that_shards_cannot_hold_is_an_error_that_names_it(tmp_path, entry, words):
    refused(words, [("k", encoded(picture(0)), 0), entry], tmp_path)
    assert not files(tmp_path / "out")


def test_a_label_beyond_the_class_names_is_an_error(tmp_path):
    source = Source("mine", [Item("a", picture(0), 1), Item("b", picture(0), 2)], ("cat", "dog"))
    refused("b: label 2 is not one of 2 classes", source, tmp_path)


def test_what_is_no_source_is_refused(tmp_path):
    refused("a int is no source of samples", 5, tmp_path)
    refused("no source is given", {}, tmp_path)
    refused("split 'val' is given, and the sources say theirs: train", {"train": []}, tmp_path, split="val")
    refused("split 'a/b' is part of files' names", [], tmp_path, split="a/b")
