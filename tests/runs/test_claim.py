"""One run at a time in a folder."""

import errno
import os
import subprocess
import sys

import pytest

from blocks.runs.claim import LOCK, claimed

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "a+")
fcntl.lockf(file, fcntl.LOCK_EX)
print("process 7 on elsewhere", file=file, end="", flush=True)
print(flush=True)
sys.stdin.read()
"""


def test_a_folder_that_another_process_has_is_refused_until_that_ends(tmp_path):
    command = [sys.executable, "-S", "-c", HOLD, str(tmp_path / LOCK)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(ValueError, match=r"another run is writing to .* \(process 7 on elsewhere\); let it end"):
            claimed(tmp_path).__enter__()
        other.kill()
        other.wait()
        with claimed(tmp_path):
            assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on ")


def test_a_folder_that_cannot_be_made_is_clear(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file/run cannot be written to \(Not a directory\); give another folder"):
        claimed(tmp_path / "file" / "run").__enter__()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_folder_without_locks_is_anybodys(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.lockf", refuse)
    with claimed(tmp_path):
        assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on ")
