"""Checkpoints: whole or absent, exact, and clear about what does not fit."""

import os
from pathlib import Path

import attrs
import pytest
import torch

from blocks import tree
from blocks.durable import is_intact
from blocks.runs import checkpoint


@attrs.frozen(eq=False)
class Small:
    """A state's likeness."""

    params: dict
    step: torch.Tensor


def small(width=3, step=5, name="fc1"):
    weight = torch.arange(2.0 * width).reshape(2, width)
    half = torch.ones(width, dtype=torch.bfloat16)
    return Small({name: {"weight": weight, "half": half}}, torch.tensor(step))


def equal(a, b):
    a, b = tree.flatten(a), tree.flatten(b)
    return a.keys() == b.keys() and all(a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a)


def test_a_saved_state_comes_back_equal_with_its_facts(tmp_path):
    path = checkpoint.save(tmp_path / "new" / "folder", small(), 5, {"batch_size": 8})
    assert path.name == "step-00000005.pt"
    state, about = checkpoint.load(path, tree.map(torch.zeros_like, small()))
    assert isinstance(state, Small)
    assert equal(state, small())
    assert about == {"batch_size": 8}


def test_a_loaded_state_may_be_changed_in_place_without_changing_the_file(tmp_path):
    path = checkpoint.save(tmp_path, small(), 5, {})
    checkpoint.load(path, small())[0].params["fc1"]["weight"].zero_()
    assert equal(checkpoint.load(path, small())[0], small())


def test_a_view_is_saved_without_the_storage_around_it(tmp_path):
    wide = torch.zeros(1_000_000)
    path = checkpoint.save(tmp_path, {"a": wide[3:5]}, 1, {})
    assert path.stat().st_size < 10_000


def test_the_newest_are_kept_and_stale_halves_removed(tmp_path):
    (tmp_path / "step-00000002.tmp").write_text("half")
    (tmp_path / "notes.pt").write_text("not ours")
    for step in (9, 99, 100):
        checkpoint.save(tmp_path, small(), step, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.pt", "step-00000099.pt", "step-00000100.pt"]
    assert checkpoint.latest(tmp_path).name == "step-00000100.pt"


def test_no_folder_has_no_latest(tmp_path):
    assert checkpoint.latest(tmp_path / "nowhere") is None


def test_a_checkpoint_is_named_by_its_file_or_its_runs_folder(tmp_path, monkeypatch):
    """And by nothing never, wherever the program runs."""
    newest = [checkpoint.save(tmp_path, small(step=step), step, {}) for step in (1, 2)][-1]
    assert checkpoint.file_of(tmp_path) == checkpoint.file_of(newest) == newest
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in .*empty; give the folder of a run"):
        checkpoint.file_of(tmp_path / "empty")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"no checkpoint is named; give a file, or a run's folder"):
        checkpoint.file_of("")


@pytest.mark.parametrize("kind", [str, Path])
def test_a_url_is_no_checkpoint_and_shows_no_token(kind):
    with pytest.raises(ValueError, match=r"is a URL; download it first, and give the file \(--weights\)") as caught:
        checkpoint.file_of(kind("https://host/x/y.pth?token=abc"))
    assert "abc" not in str(caught.value)


def test_a_failed_save_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, small(), 1, {})

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match=r"step-00000002.pt could not be saved \(disk full\): it takes 0.0 MB, and"):
        checkpoint.save(tmp_path, small(step=2), 2, {})
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001.pt"]  # no half keeps the disk full
    assert checkpoint.latest(tmp_path).name == "step-00000001.pt"
    assert is_intact(checkpoint.latest(tmp_path))


def test_the_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("replace"), replace(*names)))
    checkpoint.save(tmp_path, small(), 1, {})
    assert calls == ["fsync", "replace", "fsync"]


def test_another_models_checkpoint_names_what_differs(tmp_path):
    path = checkpoint.save(tmp_path, small(width=3), 5, {})
    with pytest.raises(
        ValueError, match=r"another model.*fc1.weight \[2, 3\] in the file, \[2, 4\] here.*output folder"
    ):
        checkpoint.load(path, small(width=4))
    with pytest.raises(ValueError, match=r"not in the file: params.fc2.weight \[2, 3\].*only in the file: params.fc1"):
        checkpoint.load(path, small(name="fc2"))
    with pytest.raises(ValueError, match=r"fc1.half torch.bfloat16 in the file, torch.float32 here"):
        checkpoint.load(path, tree.cast(small(), torch.float32))


def test_a_long_list_of_differences_is_cut(tmp_path):
    path = checkpoint.save(tmp_path, {str(i): torch.zeros(1) for i in range(9)}, 5, {})
    with pytest.raises(ValueError, match=r"only in the file: 1 .1., 2 .1., 3 .1., 4 .1. and 4 more"):
        checkpoint.load(path, {"0": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"only in the file: 5 .1., 6 .1., 7 .1., 8 .1.\. Give"):
        checkpoint.load(path, {str(i): torch.zeros(1) for i in range(5)})


def test_what_is_fitted_is_a_copy():
    """A file is mapped into memory, and may be deleted or written anew while the run goes on."""
    leaves = {"a": torch.zeros(2)}
    found = checkpoint.fit(leaves, {"a": torch.ones(2)}, "step-00000001.pt")
    leaves["a"] += 1
    assert torch.equal(found["a"], torch.zeros(2))


@pytest.mark.parametrize("content", [[torch.zeros(2)], torch.zeros(2), {"state": {}}], ids=str)
def test_what_somebody_else_saved_is_no_checkpoint(tmp_path, content):
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"model.pth is not a checkpoint of this library: it lacks the entries"):
        checkpoint.read(tmp_path / "model.pth")


class Mischief:
    """What runs code where it is unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (self.place,)


def test_no_code_of_a_file_is_run(tmp_path):
    torch.save({"state": {}, "about": Mischief(str(tmp_path / "mischief"))}, tmp_path / "step-00000001.pt")
    with pytest.raises(ValueError, match=r"step-00000001\.pt is damaged, or not of this library"):
        checkpoint.read(tmp_path / "step-00000001.pt")
    assert not (tmp_path / "mischief").exists()


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_checkpoint_is_named_with_the_whole_one_before_it(tmp_path, damage):
    checkpoint.save(tmp_path, small(), 5, {})
    path = checkpoint.save(tmp_path, small(), 6, {})
    content = bytearray(path.read_bytes())
    if damage == "flip":  # one bit inside a tensor
        content[content.index(torch.arange(6.0).numpy().tobytes()) + 4] ^= 1
    path.write_bytes({"cut": content[:-100], "flip": content, "empty": b""}[damage])
    with pytest.raises(ValueError, match=r"step-00000006.pt is damaged.*step-00000005.pt; delete the damaged file"):
        checkpoint.load(path, small())


def test_no_damaged_byte_gives_another_error_than_that_or_other_numbers(tmp_path):
    """Most bytes of so small a file are the archive's own, which its checksums leave out: names, places, lengths."""
    checkpoint.save(tmp_path, small(), 5, {})
    path = checkpoint.save(tmp_path, small(), 6, {})
    content, told = path.read_bytes(), set()
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            found, _ = checkpoint.load(path, small())
        except ValueError as error:
            told.add(str(error).split(" is damaged")[0])
        else:
            assert equal(found, small()), place
    assert told == {f"checkpoint {path}"}


def test_of_several_damaged_ones_the_newest_whole_one_before_is_named(tmp_path):
    paths = [checkpoint.save(tmp_path, small(), step, {}, keep=5) for step in (1, 2, 3, 4, 5)]
    for damaged in paths[2:4]:
        damaged.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"whole: step-00000002.pt; delete"):
        checkpoint.read(paths[3])


def test_a_damaged_only_checkpoint_says_that_there_is_no_other(tmp_path):
    path = tmp_path / "step-00000006.pt"
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="no whole one before it"):
        checkpoint.load(path, small())


def test_a_foreign_file_and_a_missing_one_are_clear(tmp_path):
    torch.save({"model": {}}, tmp_path / "step-00000001.pt")
    with pytest.raises(ValueError, match="not a checkpoint of this library"):
        checkpoint.read(tmp_path / "step-00000001.pt")
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        checkpoint.read(tmp_path / "step-00000002.pt")


def test_keeping_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="keep 0"):
        checkpoint.save(tmp_path, small(), 1, {}, keep=0)
