"""One process at a time writes to a folder."""

import errno
import multiprocessing
import os

import pytest

from blocks.data import open_shards
from tests.data.writing.interruption import write
from tests.data.writing.made import files, items


def _hold(folder, held, release):
    def waiting():
        yield from items(5)
        held.set()
        release.wait()

    write(waiting(), folder)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_folder_without_locks_is_written_to(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.lockf", refuse)
    write(items(9), tmp_path)
    assert len(open_shards(tmp_path)) == 9


def test_two_processes_do_not_write_to_one_folder(tmp_path):
    context = multiprocessing.get_context("fork")
    held, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, held, release))
    process.start()
    held.wait()
    with pytest.raises(ValueError, match="another process is writing shards to"):
        write(items(5), tmp_path)
    release.set()
    process.join()
    assert process.exitcode == 0
    assert "train-000001.tar" in files(tmp_path)
