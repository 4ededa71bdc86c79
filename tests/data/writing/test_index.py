"""The index beside the shards."""

import hashlib
import json
import tarfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from timm.data.readers.reader_wds import ReaderWds

from blocks.data.index.index import open_shards
from blocks.data.index.read import Reader
from blocks.data.writing import write_dataset
from tests.data.pictures import picture, read_manifest
from tests.data.writing.made import files, image_folder, items


@pytest.fixture
def written(tmp_path):
    sources = {"train": items(11), "val": items(4)}
    return tmp_path / "out", write_dataset(sources, tmp_path / "out", samples_per_shard=4, workers=0)


def test_the_index_says_what_lies_in_the_shards(written):
    folder, report = written
    manifest = read_manifest(folder)
    assert (manifest["version"], manifest["classes"]) == (2, [])
    train = manifest["splits"]["train"]
    assert (train["samples"], train["samples_per_class"], train["table"]) == (11, [4, 4, 3], "train-samples.npy")
    assert [shard["samples"] for shard in train["shards"]] == [4, 4, 3]
    for shard in train["shards"] + manifest["splits"]["val"]["shards"]:
        data = (folder / shard["name"]).read_bytes()
        assert (shard["bytes"], shard["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert report["train"].shards == train["shards"]
    assert np.array_equal(report["train"].table, np.load(folder / train["table"]))


def test_the_table_says_what_tarfile_finds(written):
    folder, _ = written
    for split, shards in ((name, entry["shards"]) for name, entry in read_manifest(folder)["splits"].items()):
        rows = []
        for shard in shards:
            with tarfile.open(folder / shard["name"]) as tar:
                found = {info.name: info for info in tar}
                for name, info in found.items():
                    if name.endswith(".png"):
                        label = int(tar.extractfile(found[name.replace(".png", ".cls")]).read())
                        rows.append((info.offset_data, info.size, label))
        table = np.load(folder / f"{split}-samples.npy")
        assert table.dtype == np.int64
        assert table.T.tolist() == list(map(list, rows))


def test_open_shards_finds_the_same_by_scanning(written):
    folder, report = written
    index = open_shards(f"{folder}/train-*.tar")
    assert np.array_equal([index.offset, index.size, index.label], report["train"].table)


@pytest.mark.parametrize("training", [False, True])
def test_timms_reader_gives_every_sample_once(written, training):
    folder, _ = written
    reader = ReaderWds(str(folder), split="train", is_training=training)
    assert len(reader) == 11
    found = sorted((np.asarray(image).tolist(), label) for image, label in reader)
    assert found == sorted((np.asarray(picture(i)).tolist(), i % 3) for i in range(11))


def test_timms_info_names_all_splits(written):
    infos = json.loads((written[0] / "_info.json").read_text())["splits"]
    assert infos["val"] == {
        "name": "val", "filenames": ["val-000000.tar"], "shard_lengths": [4], "num_samples": 4,
    }  # fmt: skip


def test_the_classes_of_a_folder_are_in_the_index(tmp_path):
    write_dataset(image_folder(tmp_path / "images"), tmp_path / "out", workers=0)
    assert read_manifest(tmp_path / "out")["classes"] == ["cat", "dog", "owl"]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(1, 12), per_shard=st.integers(1, 13), max_bytes=st.integers(1, 20_000), damaged=st.integers(0, 11)
)
def test_every_readable_sample_is_written_once_whatever_the_limits(
    tmp_path_factory, count, per_shard, max_bytes, damaged
):
    """Also the same bytes with one or three processes."""
    source = [(f"k{i}", b"no image" if i == damaged else np.asarray(picture(i)), i) for i in range(count)]
    wanted = [i for i in range(count) if i != damaged]
    folders = [tmp_path_factory.mktemp("out") for _ in range(2)]
    for folder, workers in zip(folders, (1, 3), strict=True):
        options = dict(samples_per_shard=per_shard, bytes_per_shard=max_bytes, workers=workers, progress=False)
        if not wanted:
            with pytest.raises(ValueError, match="no readable image among 1: k0: "):
                write_dataset(source, folder, **options)
            return
        report = write_dataset(source, folder, **options)["train"]
        index = open_shards(folder)
        reader = Reader(index)
        assert index.label.tolist() == report.table[2].tolist() == wanted
        assert all(np.array_equal(reader.image(n), picture(i)) for n, i in enumerate(wanted))
        assert [name for name, _ in report.unreadable] == [f"k{damaged}"] * (damaged < count)
        assert max(shard["samples"] for shard in report.shards) <= per_shard
    assert files(folders[0]) == files(folders[1])
