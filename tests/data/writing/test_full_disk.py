"""A disk that is full while shards are written."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from blocks.data.writing import journal, manifest, write_dataset, writer
from tests.data.pictures import samples
from tests.data.writing.made import files, image_folder, items

ROOT = Path(__file__).parents[3]
SMALL_DISK = ["unshare", "--map-root-user", "--mount"]
# a file system of 60 KB in a namespace of its own; later it grows, and the same command is given again
PROGRAM = """
import os, subprocess, sys
from blocks.data import shards
source, disk, copy = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", disk], check=True)
arguments = [source, disk + "/out", "--samples-per-shard", "4", "--workers", "0"]
print(shards.main(arguments), sorted(os.listdir(disk + "/out")))
subprocess.run(["mount", "-o", "remount,size=1m", disk], check=True)
print(shards.main(arguments))
subprocess.run(["cp", "-r", disk + "/out", copy], check=True)
"""


def test_a_full_disk_keeps_whole_shards_and_the_same_command_goes_on(tmp_path, capfd):
    mount = f"mount -t tmpfs tmpfs {tmp_path}"
    try:
        allowed = subprocess.run([*SMALL_DISK, "sh", "-c", mount], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("no file system can be mounted here")
    folder = image_folder(tmp_path / "images", count=8)
    (tmp_path / "disk").mkdir()
    done = subprocess.run(
        [*SMALL_DISK, sys.executable, "-c", PROGRAM, folder, tmp_path / "disk", tmp_path / "copy"],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()[-1]
    assert f"cannot write to {tmp_path}/disk/out: No space left on device; it needs a disk with room" in said
    assert f"whole shards in {tmp_path}/disk/out are kept; the same again goes on after them" in said
    assert "2 ['train-000000.tar'" in done.stdout
    assert ".tmp" not in done.stdout
    write_dataset(folder, tmp_path / "whole", samples_per_shard=4, workers=0)
    assert files(tmp_path / "copy") == files(tmp_path / "whole")


def _full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", [(writer._Tar, "write"), (os, "fsync"), (os, "replace"), (manifest.np, "save")])
def test_a_failing_write_names_the_folder_and_leaves_no_temporary_file(tmp_path, monkeypatch, where):
    with monkeypatch.context() as patch:
        patch.setattr(*where, _full)
        with pytest.raises(OSError, match=r"No space left on device") as caught:
            write_dataset(items(9), tmp_path, samples_per_shard=4, workers=0)
    assert caught.value.errno == errno.ENOSPC
    assert where[0] is manifest.np or f"cannot write to {tmp_path}: " in str(caught.value)
    assert not list(tmp_path.glob("*.tmp"))
    write_dataset(items(9), tmp_path, samples_per_shard=4, workers=0)
    assert journal.NAME not in files(tmp_path)


def test_write_shards_removes_its_shards_when_the_disk_is_full(tmp_path, monkeypatch):
    real, written = writer._Tar.write, []

    def write(self, data):
        written.append(len(data))
        return _full() if sum(written) > 30_000 else real(self, data)

    monkeypatch.setattr(writer._Tar, "write", write)
    with pytest.raises(OSError, match=f"cannot write to {tmp_path}: No space left on device"):
        writer.write_shards(samples(40), tmp_path, "a", samples_per_shard=3)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_may_not_be_written_to_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match=f"cannot write to {tmp_path}/file/out: Not a directory"):
        write_dataset(items(3), tmp_path / "file" / "out", workers=0)
