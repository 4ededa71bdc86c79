"""What the tests of writing share: image folders, and what was written from them."""

import tarfile
from pathlib import Path

import pytest

from blocks.data.index.index import open_shards
from blocks.data.index.read import Reader
from blocks.data.writing import Item, write_dataset
from tests.data.pictures import encoded, picture


def image_folder(root, classes=("cat", "dog", "owl"), count=5):
    for label, name in enumerate(classes):
        (root / name / "deep").mkdir(parents=True)
        for i in range(count):
            data = encoded(picture(100 * label + i), "jpeg" if i % 2 else "png")
            (root / name / ("deep" if i == 0 else "") / f"{i}.{'JPEG' if i % 2 else 'png'}").write_bytes(data)
    return root


def items(count, first=0):
    for i in range(first, count):
        yield Item(f"k{i}", encoded(picture(i)), i % 3, {"number": i})


def files(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def members(path):
    """name -> bytes of all files of a tar, by Python's own reader."""
    with tarfile.open(path) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}


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
