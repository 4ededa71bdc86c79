import gzip
import json
import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import webdataset

from blocks.data.decode import UnreadableImage
from blocks.data.index.index import open_shards
from blocks.data.index.read import Reader
from blocks.data.storage.cache import once
from tests.data.pictures import encoded, picture, samples, shards, tar

PNG = encoded(picture(0))


def test_every_sample_is_where_the_index_says(tmp_path):
    names = shards(tmp_path, 10, 4)
    index = open_shards(names)
    wanted = list(samples(10))
    assert len(index) == 10
    assert index.label.tolist() == [int(s["cls"]) for s in wanted]
    reader = Reader(index)
    assert [reader.read(i) for i in range(10)] == [s["png"] for s in wanted]
    assert index.name(9) == f"{names[2]}, sample 0009"


def test_plain_webdataset_reads_our_shards(tmp_path):
    names = shards(tmp_path, 10, 4)
    read = list(webdataset.WebDataset(names, shardshuffle=False).decode())
    assert [(s["__key__"], s["cls"]) for s in read] == [(f"{i:04d}", i % 3) for i in range(10)]


def test_patterns_globs_folders_and_lists_give_the_same_samples(tmp_path):
    names = shards(tmp_path, 10, 4)
    wanted = open_shards(names)
    ways = [f"{tmp_path}/train-{{000000..000002}}.tar", f"{tmp_path}/train-*.tar", str(tmp_path), tmp_path]
    ways.append([f"{tmp_path}/train-{{000000..000001}}.tar", tmp_path / "train-000002.tar"])
    for way in ways:
        index = open_shards(way)
        assert index.shards == wanted.shards
        assert np.array_equal(index.offset, wanted.offset)


def test_a_folder_whose_name_looks_like_a_pattern_is_that_folder(tmp_path):
    folder = tmp_path / "photos [2024]"
    folder.mkdir()
    names = shards(folder, 10, 4)
    for way in (f"{folder}/train-*.tar", f"{folder}/train-{{000000..000002}}.tar", folder):
        assert open_shards(way).shards == open_shards(names).shards


def test_a_gzipped_shard_is_unpacked_once(tmp_path, cache):
    (name,) = shards(tmp_path, 5, 5)
    plain = open_shards(name)
    with open(name, "rb") as source, gzip.open(f"{name}.gz", "wb") as out:
        shutil.copyfileobj(source, out)
    packed = open_shards(f"{name}.gz")
    assert [Reader(packed).read(i) for i in range(5)] == [Reader(plain).read(i) for i in range(5)]
    assert packed.name(2) == f"{name}.gz, sample 0002"
    (unpacked,) = cache.glob("shards/*.tar")
    before = unpacked.stat().st_mtime_ns
    open_shards(f"{name}.gz")
    assert unpacked.stat().st_mtime_ns == before


def test_a_changed_shard_is_scanned_again(tmp_path):
    (name,) = shards(tmp_path, 5, 5)
    assert len(open_shards(name)) == 5
    os.unlink(name)
    shards(tmp_path, 7, 7)
    assert len(open_shards(name)) == 7


@pytest.mark.parametrize("in_place", [True, False])
def test_a_shard_of_equal_size_and_time_is_scanned_again(tmp_path, in_place):
    """As rsync --times or tar -p puts another version there."""
    path, other = (tar(tmp_path / f"{i}.tar", [("a.png", PNG), ("a.cls", b"%d" % i)]) for i in range(2))
    assert open_shards(path).label.tolist() == [0]
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    if in_place:
        path.write_bytes(other.read_bytes())
    else:
        os.replace(other, path)
    os.utime(path, ns=times)
    assert open_shards(path).label.tolist() == [1]


def test_a_name_that_no_terminal_shows_is_told_in_one_line_that_one_does(tmp_path):
    """Keys come from a tar, which may hold any bytes; a run says the names of its damaged samples."""
    path = tmp_path / "a.tar"
    keys = ["caf\udce9", "a\nb\x1b[2J", "\u00fc"]
    tar(path, [(f"{key}.{end}", data) for key in keys for end, data in (("png", PNG[:60]), ("cls", b"1"))])
    index = open_shards(path)
    names = [index.name(i).rpartition("sample ")[2] for i in range(3)]
    assert names == ["caf\\udce9", "a\\nb\\x1b[2J", "\u00fc"]
    for sample in range(3):
        with pytest.raises(UnreadableImage) as caught:
            Reader(index).image(sample)
        assert str(caught.value).isprintable()


def test_the_samples_of_a_changed_shard_have_their_new_names(tmp_path):
    path = tmp_path / "a.tar"
    for key in ("old", "newer"):
        index = open_shards(tar(path, [(f"{key}.png", PNG), (f"{key}.cls", b"1")]))
        assert index.name(0) == f"{path}, sample {key}"
    path.unlink()
    assert index.name(0) == f"{path}, byte 512"


def test_hidden_files_of_a_folder_are_no_shards(tmp_path):
    names = shards(tmp_path, 4, 4)
    (tmp_path / "._train-000000.tar").write_bytes(b"a Mac's")
    assert [shard.name for shard in open_shards(tmp_path).shards] == names


def test_many_shards_are_scanned_in_a_pool(tmp_path):
    index = open_shards(shards(tmp_path, 20, 2))
    assert index.label.tolist() == [i % 3 for i in range(20)]


def test_nothing_in_a_tar_is_used_as_a_path(tmp_path):
    names = ["../../evil", "/etc/evil", "a/b/c"]
    path = tar(tmp_path / "a.tar", [(f"{n}.{e}", d) for n in names for e, d in (("png", PNG), ("cls", b"1"))])
    index = open_shards(path)
    assert Reader(index).read(0) == PNG
    assert index.name(1) == f"{path}, sample /etc/evil"


@pytest.mark.parametrize("extra", [("0000.json", b"{}"), ("0000.seg.png", PNG), ("0000.txt", b"")])
def test_other_files_of_a_sample_are_left_alone(tmp_path, extra):
    assert len(open_shards(tar(tmp_path / "a.tar", [("0000.PNG", PNG), extra, ("0000.cls", b" 2\n")]))) == 1


def test_files_that_belong_to_no_sample_are_passed_over(tmp_path):
    """Macs put a ._ file before every other into a tar."""
    strangers = ["README", "._0000.png", "0000.png", ".DS_Store", "._0000.cls", "0000.cls", "b/._1.png", "b/.git.png"]
    contents = {"0000.png": PNG, "0000.cls": b"2"}
    path = tar(tmp_path / "a.tar", [(name, contents.get(name, b"x")) for name in strangers])
    index = open_shards(path)
    assert index.label.tolist() == [2]
    assert Reader(index).read(0) == PNG
    assert index.name(0) == f"{path}, sample 0000"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([("a.png", PNG)], "sample a: no label; wanted a.cls"),
        ([("a.cls", b"1"), ("b.png", PNG)], "sample a: no image"),
        ([("a.png", PNG), ("a.cls", b"cat")], "sample a: label b'cat' is no class number"),
        ([("a.png", PNG), ("a.cls", b"")], "sample a: no label; wanted a.cls"),
        ([("a.png", PNG), ("a.cls", b"1" * 99)], "sample a: label of 99 bytes is no class number"),
        ([("a.png", PNG), ("a.jpg", PNG), ("a.cls", b"1")], "a.png and a.jpg; one image is wanted"),
        ([], "no sample in 1 shards"),
    ],
)
def test_a_sample_that_is_not_whole_is_named(tmp_path, files, words):
    path = tar(tmp_path / "a.tar", files)
    with pytest.raises(ValueError, match=words) as caught:
        open_shards(path)
    assert str(path) in str(caught.value)


def _cut(size):
    return lambda path: os.truncate(path, size)


def _overwrite(path):
    with open(path, "r+b") as file:
        file.seek(2 * 1024)
        file.write(b"x" * 512)


@pytest.mark.parametrize("damage", [_cut(0), _cut(100), _cut(700), _cut(4 * 1024), _cut(4 * 1024 + 100), _overwrite])
def test_a_truncated_or_damaged_tar_is_named(tmp_path, damage):
    """A sample is two headers and two blocks: cuts in the first header, in a file, between samples, in a header."""
    (name,) = shards(tmp_path, 4, 4)
    damage(name)
    with pytest.raises(
        ValueError, match=r"truncated or damaged .* files in it are readable; fetch or write it again"
    ) as e:
        open_shards(name)
    assert name in str(e.value)


def test_a_truncated_gzip_is_named(tmp_path, cache):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(os.urandom(5000))[:2000])
    with pytest.raises(ValueError, match=r"a\.tar\.gz is truncated or damaged"):
        open_shards(path)
    assert not [p for p in cache.glob("shards/*") if p.suffix != ".lock"]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("{}/train-{{000000..000004}}.tar", "3 of 5 shards are missing: .*train-000002.tar"),
        ("{}/val-*.tar", "no shard matches .*val-"),
        ("{}/none", "1 of 1 shards are missing"),
        ("{}/empty", "holds no shards"),
    ],
)
def test_what_is_missing_is_named(tmp_path, pattern, words):
    shards(tmp_path, 4, 2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=words):
        open_shards(pattern.format(tmp_path))


def test_an_empty_list_of_shards_is_refused():
    with pytest.raises(FileNotFoundError, match="no shards are named"):
        open_shards([])


def test_a_shard_given_twice_is_refused(tmp_path):
    names = shards(tmp_path, 4, 2)
    with pytest.raises(ValueError, match=r"given twice: .*train-000001\.tar"):
        open_shards([*names, names[1]])


def test_the_index_file_beside_the_shards_is_compared(tmp_path):
    names = shards(tmp_path, 4, 2)
    entries = [{"name": os.path.basename(name), "samples": 2, "bytes": 0} for name in names]
    manifest = {"classes": ["a", "b", "c"], "splits": {"train": {"samples": 4, "shards": entries}}}
    file = tmp_path / "index.json"
    file.write_text(json.dumps(manifest))
    assert open_shards(names[0]).classes == ("a", "b", "c")
    entries[1]["samples"] = 3
    file.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"train-000001\.tar holds 2 samples, .*index\.json says 3"):
        open_shards(tmp_path)
    manifest["splits"]["val"] = {"samples": 0, "shards": []}
    file.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="splits train, val; take one"):
        open_shards(tmp_path)
    file.write_text("[]")
    with pytest.raises(ValueError, match=r"index\.json is not an index of shards"):
        open_shards(tmp_path)


def test_a_label_out_of_range_names_its_sample(tmp_path):
    index = open_shards(shards(tmp_path, 6, 3, num_classes=5))
    index.check_labels(5)
    with pytest.raises(
        ValueError, match=r"train-000001\.tar, sample 0003: label 3 is not one of 3 classes .*num_classes=5"
    ):
        index.check_labels(3)


def _count_and_write(target: Path, log: Path) -> None:
    def make(path: Path) -> None:
        with open(log, "a") as file:
            file.write("made\n")
        path.write_text("whole")

    assert once(target, make).read_text() == "whole"


def test_processes_that_start_together_make_a_cached_file_once(tmp_path):
    context = multiprocessing.get_context("fork")
    arguments = (tmp_path / "cache" / "file", tmp_path / "log")
    processes = [context.Process(target=_count_and_write, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert (tmp_path / "log").read_text() == "made\n"
    assert not list((tmp_path / "cache").glob("*.tmp"))


def test_a_cache_that_cannot_be_written_says_how_to_move_it(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OSError, match="set XDG_CACHE_HOME"):
        open_shards(shards(tmp_path, 2, 2))
