"""What lies on the disk before a file has its name, and after."""

import errno
import os
from pathlib import Path

import pytest

from blocks.durable import replace


@pytest.fixture
def done(monkeypatch):
    """What is asked of the system, in order."""
    found, fsync, rename = [], os.fsync, os.replace

    def flush(handle):
        found.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        fsync(handle)

    def name(old, new):
        found.append(f"{old.name} is {new.name}")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", name)
    return found


def test_bytes_reach_the_disk_before_the_name_and_the_name_after(tmp_path, done):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "a").write_text("old")
    (folder / "a.tmp").write_text("new")
    replace(folder / "a.tmp", folder / "a")
    assert done == ["a.tmp", "a.tmp is a", "run"]
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a": "new"}


def refusing(what, number):
    """fsync that fails for folders, or files."""

    def fsync(handle):
        if Path(os.readlink(f"/proc/self/fd/{handle}")).is_dir() == (what == "folder"):
            raise OSError(number, os.strerror(number))

    return fsync


def test_a_file_system_that_flushes_no_folders_does_without(tmp_path, monkeypatch):
    (tmp_path / "a.tmp").write_text("new")
    monkeypatch.setattr(os, "fsync", refusing("folder", errno.EINVAL))
    replace(tmp_path / "a.tmp", tmp_path / "a")
    assert (tmp_path / "a").read_text() == "new"


@pytest.mark.parametrize(("what", "number"), [("folder", errno.EIO), ("file", errno.EINVAL), ("file", errno.ENOSPC)])
def test_what_could_not_be_flushed_else_is_an_error(tmp_path, monkeypatch, what, number):
    (tmp_path / "a.tmp").write_text("new")
    monkeypatch.setattr(os, "fsync", refusing(what, number))
    with pytest.raises(OSError, match=os.strerror(number)):
        replace(tmp_path / "a.tmp", tmp_path / "a")
    assert (tmp_path / "a").exists() == (what == "folder")
