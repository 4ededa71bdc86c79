"""Shards from a web server, an object store, a pipe, packed or plain: the same samples as from a folder."""

import gzip
import shutil
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import attrs
import fsspec
import numpy as np
import pytest

from blocks.data.index.index import open_shards
from blocks.data.index.read import Reader
from blocks.data.splits import train_and_val
from blocks.data.storage import FetchError, Retries
from tests.data.indexed import write_index, write_timms
from tests.data.pictures import shards
from tests.data.server import ALWAYS, Fault, serving

COUNT, PER_SHARD = 10, 4
QUICK = Retries(attempts=2, first_delay=0.01, max_delay=0.01, timeout=2)
BRACES = "train-{000000..000002}.tar"


@pytest.fixture
def folder(tmp_path):
    shards(tmp_path, COUNT, PER_SHARD)
    return tmp_path


@pytest.fixture
def memory():
    store = fsspec.filesystem("memory")
    yield store
    store.store.clear()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def packed(folder: Path) -> Path:
    out = folder.with_name(f"{folder.name}-packed")
    out.mkdir()
    for path in folder.iterdir():
        (out / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    return out


def read_all(index) -> list[tuple[bytes, int]]:
    reader = Reader(index)
    return [(reader.read(i), int(index.label[i])) for i in range(len(index))]


def test_the_same_samples_come_from_everywhere(folder, memory):
    wanted = read_all(open_shards(folder))
    away = packed(folder)
    for path in folder.iterdir():
        memory.pipe(f"/set/{path.name}", path.read_bytes())
    with serving(files(folder) | files(away)) as server:
        ways = [
            away,
            f"file://{folder}/{BRACES}",
            f"{server.url}/{BRACES}",
            f"{server.url}/{BRACES}.gz",
            f"memory://set/{BRACES}",
            "memory://set/train-*.tar",
            "memory://set/",
            f"pipe:cat {folder}/{BRACES}",
            f"pipe:cat {away}/{BRACES}.gz",
            [f"{folder}/train-000000.tar", f"{server.url}/train-000001.tar", "memory://set/train-000002.tar"],
            f"{server.url}/train-000000.tar::{server.url}/train-{{000001..000002}}.tar",
        ]
        for way in ways:
            assert read_all(open_shards(way, retries=QUICK)) == wanted, way


def test_with_an_index_and_its_table_nothing_is_fetched_before_it_is_read(folder):
    wanted = open_shards(folder)
    samples = read_all(wanted)
    write_index(folder, ["a", "b", "c"])
    with serving(files(folder)) as server:
        for way in (f"{server.url}/", server.url, f"{server.url}/{BRACES}", f"{server.url}/{BRACES}?signature=1"):
            server.asked.clear()
            index = open_shards(way, retries=QUICK)
            assert server.asked == [("index.json", ""), ("train-samples.npy", "")]
            assert index.classes == ("a", "b", "c")
            assert np.array_equal(index.offset, wanted.offset)
        assert index.name(9) == f"{server.url}/train-000002.tar?signature=***, byte {wanted.offset[9]}"
        assert read_all(index) == samples
        assert server.bodies("train-000000.tar") == 1
        assert index.name(9) == f"{server.url}/train-000002.tar?signature=***, sample 0009"


@pytest.mark.parametrize("way", ["http", "memory"])
def test_shards_without_an_index_are_fetched_once_and_scanned_once(folder, memory, way):
    with serving(files(folder)) as server:
        for path in folder.iterdir():
            memory.pipe(f"/set/{path.name}", path.read_bytes())
        name = f"{server.url}/{BRACES}" if way == "http" else f"memory://set/{BRACES}"
        first = open_shards(name, retries=QUICK)
        shutil.rmtree(Path(first.shards[0].local()).parent)
        again = open_shards(name, retries=QUICK)
        assert np.array_equal(first.offset, again.offset)
        assert again.shards[0].here() is None
        assert server.bodies("train-000000.tar") == (way == "http")


def test_a_shard_that_changed_on_its_server_is_scanned_again(folder):
    with serving(files(folder)) as server:
        name = f"{server.url}/train-000000.tar"
        before = open_shards(name, retries=QUICK)
        server.files["train-000000.tar"] = server.files["train-000002.tar"]
        assert len(open_shards(name, retries=QUICK)) == COUNT - 2 * PER_SHARD
        before.shards[0].discard()
        with pytest.raises(FetchError, match=r"where .* (are|is) due|changed"):
            Reader(before).read(0)


def test_a_shard_that_came_damaged_is_not_kept(folder):
    with serving(files(folder)) as server:
        server.faults["train-000000.tar"] = Fault(garbage=True)
        name = f"{server.url}/train-000000.tar"
        with pytest.raises(ValueError, match=f"{name} is truncated or damaged"):
            open_shards(name, retries=QUICK)
        assert len(open_shards(name, retries=QUICK)) == PER_SHARD


def test_timms_index_gives_the_shards_and_the_counts(folder):
    wanted = read_all(open_shards(folder))
    write_timms(folder)
    assert read_all(open_shards(folder)) == wanted
    with serving(files(folder)) as server:
        assert read_all(open_shards(server.url, retries=QUICK)) == wanted
        server.files["_info.json"] = server.files["_info.json"].replace(b"[4, 4, 2]", b"[4, 5, 2]")
        with pytest.raises(ValueError, match=r"train-000001\.tar holds 4 samples, .*/_info\.json says 5"):
            open_shards(server.url, retries=QUICK)


@pytest.mark.parametrize("status", [403, 404])
def test_an_index_that_may_not_be_read_is_none(folder, status):
    with serving(files(folder)) as server:
        server.faults["index.json"] = server.faults["_info.json"] = Fault(ALWAYS, status=status)
        assert len(open_shards(f"{server.url}/{BRACES}", retries=QUICK)) == COUNT
        with pytest.raises(FileNotFoundError, match=r"has no index\.json .*\{000000\.\.000146\}"):
            open_shards(f"{server.url}/", retries=QUICK)


FILE_URLS = ["files/train-000000.tar/content", "get", "files/123"]


@pytest.mark.parametrize("path", FILE_URLS)
def test_a_url_whose_last_part_has_no_dot_may_be_a_shard(folder, path):
    wanted = read_all(open_shards(folder / "train-000000.tar"))
    with serving({path: (folder / "train-000000.tar").read_bytes()}) as server:
        url = f"{server.url}/{path}?file=train-0.tar"
        assert read_all(open_shards(url, retries=QUICK)) == wanted
        train, val = train_and_val(url, f"{folder}/train-000001.tar")
        assert (len(train), len(val)) == (PER_SHARD, PER_SHARD)
        with pytest.raises(ValueError, match=r"is no folder with the split train; .*--val"):
            train_and_val(url, "")  # never the same shard for both


@pytest.mark.parametrize("kind", ["text/html", "text/html; charset=utf-8", "application/json", "application/xml"])
def test_a_page_at_the_url_of_a_folder_is_no_shard(kind):
    with serving({"set": b"<html>train-000000.tar</html>"}, types={"set": kind}) as server:
        for name in ("set", "none"):
            with pytest.raises(FileNotFoundError, match=rf"/{name} has no index\.json .*{name}/train-\{{000000"):
                open_shards(f"{server.url}/{name}", retries=QUICK)


def test_an_index_out_of_reach_is_an_error_and_not_none(folder):
    with serving(files(folder)) as server:
        server.faults["index.json"] = Fault(ALWAYS, status=500)
        with pytest.raises(FetchError, match=r"index\.json: not fetched in 2 attempts"):
            open_shards(f"{server.url}/{BRACES}", retries=QUICK)


@pytest.mark.parametrize(
    ("pattern", "error", "words"),
    [
        ("http://127.0.0.1:1/train-*.tar", ValueError, "does not list its files.*train-{000000..000146}.tar"),
        ("memory://none/train-*.tar", FileNotFoundError, "no shard matches memory://none"),
        ("memory://none/train-000000.tar", FileNotFoundError, "memory://none/train-000000.tar: not found"),
        ("memory://none/", FileNotFoundError, "memory://none/: not found|holds no shards"),
        ("none://bucket/a.tar", ValueError, "none://bucket/a.tar: Protocol not known: none; known are"),
        ("pipe:cat /none/a.tar", FetchError, "each time: exit status 1, .*No such file"),
        ("pipe:no-such-program", FetchError, "exit status 127, .*not found.*is its program here"),
        ("pipe:echo a; sleep 9", FetchError, r"no byte in 0\.3 s"),
        ("pipe:echo a; exec >&-; sleep 9", FetchError, r"it does not end"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(pattern, error, words):
    with pytest.raises(error, match=words) as caught:
        open_shards(pattern, retries=Retries(attempts=2, first_delay=0, max_delay=0, timeout=0.3))
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch):
    def missing(*_, **__):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(ValueError, match=r"s3://bucket/a\.tar: Install s3fs to access S3"):
        open_shards("s3://bucket/a.tar")


def test_an_object_store_that_fails_is_asked_again(folder, memory, monkeypatch):
    for path in folder.iterdir():
        memory.pipe(f"/set/{path.name}", path.read_bytes())
    wanted = read_all(open_shards(folder))
    calls, cat_file = Counter(), type(memory).cat_file

    def failing(self, path, start=None, end=None, **options):
        calls[path] += 1
        if calls[path] == 2:
            raise OSError("reset")
        return cat_file(self, path, start=start, end=end, **options)

    monkeypatch.setattr(type(memory), "cat_file", failing)
    monkeypatch.setattr("blocks.data.storage.filesystem.PIECE", 5000)
    assert read_all(open_shards(f"memory://set/{BRACES}", retries=QUICK)) == wanted
    assert set(calls.values()) == {4}  # three pieces, one of them twice
    (shard,) = open_shards("memory://set/train-000000.tar").shards
    shard.discard()
    monkeypatch.setattr("blocks.data.storage.filesystem.filesystem", lambda _: (slow(memory), "/set/train-000000.tar"))
    with pytest.raises(FetchError, match=r"each time: no answer in 0\.2 s"):
        attrs.evolve(shard, retries=attrs.evolve(QUICK, timeout=0.2)).local()


def slow(memory):
    """A file system that knows of its files and does not give them."""
    return SimpleNamespace(info=memory.info, cat_file=lambda *_, **__: time.sleep(0.5))


def test_a_recipe_takes_urls(folder):
    write_index(folder, ["a", "b", "c"])
    with serving(files(folder)) as server:
        train, val = train_and_val(f"{server.url}/{BRACES}", f"{folder}/train-000000.tar")
    assert (len(train), len(val)) == (COUNT, PER_SHARD)
    assert train.classes == val.classes == ("a", "b", "c")
