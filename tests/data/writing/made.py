"""What the tests of writing share: image folders, and what was written from them."""

import tarfile
from pathlib import Path

from blocks.data.writing import Item
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
