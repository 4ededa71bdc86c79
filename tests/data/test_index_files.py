"""What is read of an index beside the shards, and what is refused."""

import json

import numpy as np
import pytest

from blocks.data.index.index import open_shards
from blocks.data.index.read import Reader
from tests.data.indexed import write_index, write_timms
from tests.data.pictures import shards

COUNT, PER_SHARD = 10, 4
SHARD = {"name": "a.tar", "samples": COUNT, "bytes": 1, "sha256": "0" * 64}
HUGE = 2**63 - 1


@pytest.fixture
def folder(tmp_path):
    shards(tmp_path, COUNT, PER_SHARD)
    return tmp_path


def rewrite(folder, change) -> None:
    """index.json, after `change(its split)`."""
    index = json.loads((folder / "index.json").read_text())
    change(index["splits"]["train"])
    (folder / "index.json").write_text(json.dumps(index))


def test_a_table_stands_for_a_scan(folder, monkeypatch):
    scanned = open_shards(folder)
    write_index(folder, ["a", "b", "c"])
    monkeypatch.setattr("blocks.data.index.scan._scan", lambda _: pytest.fail("it was scanned"))
    monkeypatch.setattr("blocks.data.index.scan.FORMAT", "nothing cached")
    for way in (folder, f"{folder}/train-*.tar", [f"{folder}/train-000001.tar"]):
        index = open_shards(way)
        part = slice(PER_SHARD, 2 * PER_SHARD) if isinstance(way, list) else slice(None)
        for column in ("offset", "size", "label"):
            assert np.array_equal(getattr(index, column), getattr(scanned, column)[part])
        assert index.classes == ("a", "b", "c")
    assert index.name(1) == f"{folder}/train-000001.tar, sample 0005"
    assert Reader(index).read(1) == Reader(scanned).read(5)


def test_shards_that_are_not_in_the_table_are_scanned(folder):
    write_index(folder)
    rewrite(folder, lambda split: split.update(samples=8, shards=split["shards"][:2]))
    np.save(folder / "train-samples.npy", np.load(folder / "train-samples.npy")[:, :8])
    assert len(open_shards(folder)) == 8
    assert len(open_shards(f"{folder}/train-*.tar")) == COUNT


def test_a_shard_of_another_size_than_its_index_says_is_an_error_with_both(folder):
    write_index(folder)
    path = folder / "train-000001.tar"
    size = path.stat().st_size
    with open(path, "ab") as file:
        file.write(bytes(512))
    with pytest.raises(
        ValueError, match=rf"train-000001\.tar has {size + 512} bytes, .*index\.json says {size}; fetch"
    ):
        open_shards(folder)


@pytest.mark.parametrize(
    "name",
    [
        "/etc/shard.tar",
        "../shard.tar",
        "a/../../shard.tar",
        "..\\shard.tar",
        "https://host/shard.tar",
        "pipe:rm -r .",
        "file:shard.tar",
        "C:\\shard.tar",
        "a\0b",
        "",
        7,
    ],
)
@pytest.mark.parametrize("where", ["shard", "table", "timm"])
def test_a_name_that_leads_out_of_the_folder_is_refused(folder, name, where):
    if where == "timm":
        write_timms(folder)
        text = (folder / "_info.json").read_text().replace('"train-000001.tar"', json.dumps(name))
        (folder / "_info.json").write_text(text)
    else:
        write_index(folder)
        change = {"table": name} if where == "table" else {"shards": [{**SHARD, "name": name}]}
        rewrite(folder, lambda split: split.update(change))
    with pytest.raises(ValueError, match=r"is not an index of shards \(.* is no (file in its folder|text)\)"):
        open_shards(folder)


def test_an_index_of_no_split_is_refused(folder):
    (folder / "index.json").write_text('{"splits": {}}')
    for split in (None, "train"):
        with pytest.raises(ValueError, match=f"{folder} holds the splits , not {split}"):
            open_shards(folder, split)


def test_a_folder_below_is_within(folder):
    write_index(folder)
    (folder / "below").mkdir()
    (folder / "train-000001.tar").rename(folder / "below" / "train-000001.tar")
    rewrite(folder, lambda split: split["shards"][1].update(name="below/train-000001.tar"))
    assert len(open_shards(folder)) == COUNT


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"samples": 11}, "11 samples in all, 10 in its shards"),
        ({"shards": [{**SHARD, "samples": -1}], "samples": -1}, "-1 is no count"),
        ({"shards": [{"name": "a.tar", "samples": 10}]}, "KeyError: 'bytes'"),
        ({"shards": [{**SHARD, "samples": True}], "samples": 1}, "True is no count"),
        ({"shards": [{**SHARD, "bytes": 1.5}]}, "1.5 is no count"),
        ({"shards": [{**SHARD, "sha256": "../x"}]}, "is no sha256"),
        ({"shards": 3}, "TypeError"),
        ({"table": None}, "None is no text"),
    ],
)
def test_an_index_of_another_kind_is_refused(folder, change, words):
    write_index(folder, **change)
    with pytest.raises(ValueError, match=rf"index\.json is not an index of shards \(.*({words})"):
        open_shards(folder)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "[" * 100_000, '{"splits": 3}', '{"version": 3, "splits": {}}', "\xff"], ids=range(7)
)
def test_what_is_no_index_at_all_is_refused(folder, text):
    (folder / "index.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"index\.json is not an index of shards"):
        open_shards(folder)


@pytest.mark.parametrize(
    ("row", "value"), [(0, 0), (0, -5), (0, 10**9), (0, HUGE), (1, -1), (1, HUGE), (2, -1), (2, 1 << 24)]
)
def test_a_sample_outside_its_shard_is_refused(folder, row, value):
    write_index(folder)
    table = np.load(folder / "train-samples.npy")
    table[row, 6] = value
    np.save(folder / "train-samples.npy", table)
    with pytest.raises(ValueError, match=r"train-samples\.npy: sample 6 has offset .* in a shard of \d+ bytes"):
        open_shards(folder)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (np.zeros((3, 9), np.int64), r"holds int64 \[3, 9\], .*index\.json says int64 \[3, 10\]"),
        (np.zeros((3, 10), np.int32), r"holds int32 \[3, 10\]"),
        (np.array([{}], object), "is not a table of samples"),
        (b"rubbish", "is not a table of samples"),
        (b"", "is not a table of samples"),
        (None, r"train-samples\.npy is missing, but .*index\.json names it"),
    ],
)
def test_a_table_of_another_form_is_refused(folder, table, words):
    write_index(folder)
    path = folder / "train-samples.npy"
    if table is None:
        path.unlink()
    elif isinstance(table, bytes):
        path.write_bytes(table)
    else:
        np.save(path, table, allow_pickle=True)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        open_shards(folder)


def test_ours_is_read_before_timms(folder):
    write_index(folder, ["a", "b", "c"])
    write_timms(folder)
    assert open_shards(folder).classes == ("a", "b", "c")
