"""From map-style datasets to samples."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, ImageFolder

from blocks.data.decode import rgb
from blocks.data.index.index import open_shards
from blocks.data.index.read import Reader
from blocks.data.writing import dataset_source, write_dataset
from tests.data.pictures import picture, read_manifest
from tests.data.writing.made import files, image_folder, refused, stored, write


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


class Dicts(Tiny):
    """As Hugging Face's data sets give their samples, and know their class names."""

    def __init__(self, count, image="image", label="label"):
        super().__init__(count)
        self.keys, self.features = (image, label), {label: SimpleNamespace(names=self.classes), image: None}
        del self.classes

    def __getitem__(self, i):
        return {"id": i, **dict(zip(self.keys, super().__getitem__(i), strict=True))}


def test_a_dataset_of_dicts_is_taken_by_their_names(tmp_path):
    write(Dicts(9), tmp_path / "dicts")
    write(Tiny(9), tmp_path / "tuples")
    assert open_shards(tmp_path / "dicts").classes == ("cat", "dog", "owl")
    assert files(tmp_path / "dicts") == files(tmp_path / "tuples")
    write(Dicts(9, label="fine"), tmp_path / "alone", labelled=False)
    assert len(open_shards(tmp_path / "alone", need_labels=False)) == 9


@pytest.mark.parametrize(
    ("names", "labelled", "words"),
    [
        (("img", "label"), True, "sample [0-9]+ of the dataset has id, img, label; .* 'image' and 'label'"),
        (("image", "fine"), True, "sample [0-9]+ of the dataset has id, image, fine; .* 'image' and 'label'"),
        (("img", "label"), False, "sample [0-9]+ of the dataset has id, img, label; .* 'image'"),
    ],
)
def test_dicts_of_other_names_are_refused_with_theirs(tmp_path, names, labelled, words):
    refused(words, Dicts(9, *names), tmp_path, labelled=labelled)


def test_a_dataset_of_something_else_is_refused_by_what_it_gives(tmp_path):
    refused(r"sample [0-9]+ of the dataset is a str; give \(image, label\)", Texts(), tmp_path)


class Texts:
    def __len__(self):
        return 2

    def __getitem__(self, i):
        return "picture"


def test_several_names_of_a_class_are_one(tmp_path):
    """As torchvision's ImageNet has them."""
    dataset = Tiny(9)
    dataset.classes = [("tench", "Tinca tinca"), ("goldfish",), "shark"]
    write(dataset, tmp_path)
    assert open_shards(tmp_path).classes == ("tench, Tinca tinca", "goldfish", "shark")


def test_an_image_folder_that_makes_its_own_samples_is_asked_for_them(tmp_path):
    class Turned(ImageFolder):
        def __getitem__(self, i):
            image, label = super().__getitem__(i)
            return image.rotate(90), 2 - label

    dataset = Turned(image_folder(tmp_path / "images"))
    write(dataset, tmp_path / "out")
    index = open_shards(tmp_path / "out")
    found = sorted((int(index.label[i]), Reader(index).image(i).tobytes()) for i in range(len(index)))
    assert found == sorted((label, image.tobytes()) for image, label in dataset)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "I;16", "LA", "P"])
def test_a_dataset_of_any_mode_is_stored_as_what_the_decoder_makes_of_it(tmp_path, mode):
    image = Image.fromarray(np.full((8, 8), 30_000, np.uint16)) if mode == "I;16" else picture(0, mode=mode)
    write([(None, image, 0)], tmp_path)
    assert np.array_equal(Reader(open_shards(tmp_path)).image(0), rgb(image))


def test_pictures_of_numbers_without_a_white_are_unreadable(tmp_path):
    floats = Image.fromarray(np.zeros((8, 8), np.float32))
    written = write([(None, picture(0), 0), (None, floats, 0)], tmp_path)["train"]
    [(name, reason)] = written.unreadable
    assert name == "sample 1"
    assert "mode F holds 32-bit numbers" in reason


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
