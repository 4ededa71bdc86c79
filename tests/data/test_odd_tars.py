"""Tars that other tools make: joined, with links, with files in another order, with labels that are none."""

import io
import tarfile

import pytest

from blocks.data.index.index import open_shards
from blocks.data.index.scan import MAX_CLASSES
from blocks.data.writing import item
from tests.data.pictures import encoded, picture, tar

PNG = encoded(picture(0))


def pair(key, label=b"0"):
    return [(f"{key}.png", PNG), (f"{key}.cls", label)]


# --- the end ---


def test_a_tar_behind_a_tar_is_told_and_not_left_out(tmp_path):
    first, second = (tar(tmp_path / f"{key}.tar", pair(key)) for key in "ab")
    first.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(ValueError, match=r"truncated or damaged \(more than zeros .* as cat leaves them; tar -A joins"):
        open_shards(first)


@pytest.mark.parametrize("zeros", [0, 100, 512, 10240, 3 << 20])
def test_zeros_of_any_number_may_follow_the_end(tmp_path, zeros):
    path = tar(tmp_path / "a.tar", pair("a"))
    path.write_bytes(path.read_bytes() + bytes(zeros))
    assert len(open_shards(path)) == 1
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ValueError, match="more than zeros"):
        open_shards(path)


# --- links ---


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
@pytest.mark.parametrize("name", ["b.png", "b.cls"])
def test_a_file_that_is_a_link_is_refused_by_name(tmp_path, kind, name):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as out:
        for own, data in (*pair("a"), *pair("b")):
            info = tarfile.TarInfo(own)
            if own == name:
                info.type, info.linkname = kind, "a" + own[1:]
            else:
                info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    with pytest.raises(ValueError, match=rf"{name} is a link to a.{name[2:]}; .*tar --dereference --hard-deref"):
        open_shards(path)


def test_a_link_that_is_no_part_of_a_sample_is_passed_over(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as out:
        info = tarfile.TarInfo("latest")
        info.type, info.linkname = tarfile.SYMTYPE, "a.png"
        out.addfile(info)
        for own, data in pair("a"):
            info = tarfile.TarInfo(own)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    assert len(open_shards(path)) == 1


def test_a_sparse_file_is_no_image(tmp_path):
    """Its bytes do not lie in one piece."""
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as out:
        for own, data in (*pair("a"), *pair("b")):
            info = tarfile.TarInfo(own)
            info.size, info.type = len(data), tarfile.GNUTYPE_SPARSE if own == "b.png" else tarfile.REGTYPE
            out.addfile(info, io.BytesIO(data))
    index = open_shards(path)
    assert index.incomplete.tolist() == [1]
    assert index.why_incomplete(1).startswith("no image")


# --- the order of files ---


@pytest.mark.parametrize("need_labels", [True, False])
@pytest.mark.parametrize("first", [0, 1])
def test_files_of_a_sample_that_are_no_neighbours_are_told(tmp_path, first, need_labels):
    """All pictures and then all labels, or as a disk happens to list them."""
    files = [[(f"{i}.png", PNG) for i in range(3)], [(f"{i}.cls", b"1") for i in range(3)]]
    path = tar(tmp_path / "a.tar", files[first] + files[1 - first])
    told = r"a\.tar, sample 0: its image and its label are not neighbours in the tar, .*tar --sort=name"
    with pytest.raises(ValueError, match=told):
        open_shards(path, need_labels=need_labels)


def test_one_name_twice_is_two_samples_where_both_are_whole(tmp_path):
    assert len(open_shards(tar(tmp_path / "a.tar", pair("a") + pair("b") + pair("a")))) == 3
    images = [(f"{key}.png", PNG) for key in "aba"]
    assert len(open_shards(tar(tmp_path / "b.tar", images), need_labels=False)) == 3


@pytest.mark.parametrize("extension", ["cls.txt", "txt", "json"])
def test_what_stands_in_a_labels_place_is_named(tmp_path, extension):
    path = tar(tmp_path / "a.tar", [(f"d/{i}.{end}", PNG) for i in range(2) for end in ("png", extension)])
    with pytest.raises(
        ValueError, match=rf"no label; wanted 0\.cls with a class number; it has 0\.png, 0\.{extension}; images alone"
    ):
        open_shards(path)


# --- labels ---


@pytest.mark.parametrize(
    "text",
    [
        b"999999999999",
        b"16777216",
        b"-1",
        b"+3",
        b"1_0",
        b"cat",
        b"1.0",
        b"\xd9\xa1",
        b"1" * 99,
        b"1 2",
        b"7".zfill(19),
    ],
)
def test_a_label_that_is_no_class_number_is_refused_by_name(tmp_path, text):
    path = tar(tmp_path / "a.tar", pair("a") + pair("b", text))
    with pytest.raises(ValueError, match=r"a\.tar, sample b: .*; write 0, 1, 2 \.\.\. to 16777215 .* leave b\.cls out"):
        open_shards(path)


@pytest.mark.parametrize(
    ("text", "label"), [(b"16777215", 16777215), (b" 007\r\n", 7), (b"\t0", 0), (b"7".zfill(18), 7)]
)
def test_digits_with_white_space_around_them_are_one(tmp_path, text, label):
    assert open_shards(tar(tmp_path / "a.tar", pair("a", text))).label.tolist() == [label]


def test_labels_have_one_limit():
    """What is written can be read, and what is read can be written."""
    assert MAX_CLASSES == item.MAX_CLASSES
