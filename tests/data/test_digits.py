import builtins
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from blocks.data.digits import digits
from blocks.data.index.index import open_shards
from blocks.data.index.read import Reader
from tests.data.pictures import read_manifest

sklearn = pytest.importorskip("sklearn.datasets")


def test_the_digits_are_all_there_once_and_a_fifth_of_every_class_validates(tmp_path):
    train, val = map(open_shards, digits(tmp_path))
    assert len(train) + len(val) == 1797
    counts = [np.bincount(index.label, minlength=10) for index in (train, val)]
    assert np.allclose(counts[1] / (counts[0] + counts[1]), 0.2, atol=0.01)
    assert len(train.shards) > 2 <= len(val.shards)
    wanted = sorted(sklearn.load_digits().images.reshape(1797, 64).tolist())
    found = []
    for index in (train, val):
        reader = Reader(index)
        found += [np.asarray(reader.image(i))[..., 0].reshape(64) for i in range(len(index))]
    assert sorted((np.stack(found) * (16 / 255)).round().tolist()) == wanted


def test_the_digits_have_an_index(tmp_path):
    train, _ = digits(tmp_path)
    manifest = read_manifest(Path(train).parent)
    assert manifest["classes"] == [str(label) for label in range(10)]
    assert {split: entry["table"] for split, entry in manifest["splits"].items()} == {
        "train": "train-samples.npy", "val": "val-samples.npy",
    }  # fmt: skip


def test_processes_that_start_together_write_the_digits_once(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=digits, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(open_shards(digits(tmp_path)[0])) > 1400
    assert not list(tmp_path.glob("*.tmp"))


def test_without_scikit_learn_the_extra_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name.startswith("sklearn"):
            raise ModuleNotFoundError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'vitmason\[recipes\]'"):
        digits(tmp_path)
