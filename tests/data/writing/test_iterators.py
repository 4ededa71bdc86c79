"""From iterators to samples."""

import numpy as np
import pytest

from blocks.data.index.index import open_shards
from blocks.data.index.read import Reader
from blocks.data.writing import Item, Source
from tests.data.pictures import encoded, picture
from tests.data.writing.made import files, members, refused, write


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
