"""From lists to samples."""

import json

import pytest

from blocks.data.index.index import open_shards
from tests.data.pictures import encoded, picture, read_manifest
from tests.data.writing.made import members, refused, stored, write

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
        ("l.csv", "path,label\na.png,dog \nc.png,dog\n", "line 2: label 'dog ' is 'dog' but for spaces"),
        (
            "l.csv",
            "path,label,split\na.png,0,train\nc.png,0,val\n",
            r"several splits .*\(train, val\); write a list for",
        ),
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


def test_a_path_that_no_file_can_have_is_unreadable(pictures):
    (pictures / "l.json").write_text(json.dumps(_objects([*ROWS, ("a\0.png", "cat")])))
    (left_out,) = write(pictures / "l.json", pictures / "out")["train"].unreadable
    assert left_out == ("a\0.png", "embedded null byte")


def test_a_number_of_very_many_digits_is_named_with_its_line(pictures):
    _csv(pictures / "l.csv", [("a.png", "9" * 5000)])
    refused(r"l\.csv, line 2: label '999.* is no class number", pictures / "l.csv", pictures)
