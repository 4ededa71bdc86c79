"""Fetching through fsspec over lines of every speed."""

import io
import threading

import pytest

from blocks.data.storage import FetchError, Retries
from blocks.data.storage.fetch import fetch
from blocks.data.storage.part import Part

DATA = bytes(range(256)) * 40
QUICK = Retries(first_delay=0, max_delay=0, timeout=0.2)
LEAST_PIECE = 205  # what 1,024 bytes a second move within the timeout


class Line:
    """A file system that gives so many bytes in time, of a piece that is larger none; `asked` are the pieces."""

    def __init__(self):
        self.first = self.later = len(DATA)  # of the file's first piece, of all others
        self.asked = []
        self.ended = threading.Event()

    def info(self, path):
        return {"size": len(DATA)}

    def cat_file(self, path, start, end):
        self.asked.append((start, end))
        if end - start > (self.later if start else self.first):
            self.ended.wait()
        return DATA[start:end]


@pytest.fixture
def line(monkeypatch):
    line = Line()
    monkeypatch.setattr("blocks.data.storage.filesystem.filesystem", lambda url: (line, url))
    yield line
    line.ended.set()


def fetched(retries=QUICK) -> bytes:
    memory = io.BytesIO()
    fetch("slow://a.tar", Part(memory), retries)
    return memory.getvalue()


@pytest.mark.parametrize("most", [5000, 1000, LEAST_PIECE])
def test_a_slow_line_is_asked_for_less_at_a_time(line, most):
    line.first = line.later = most
    assert fetched() == DATA
    late = [piece for piece in line.asked if piece[1] - piece[0] > most]
    assert line.asked[: len(late)] == late  # then never again
    assert len(late) < QUICK.attempts


def test_what_arrived_before_the_line_became_slow_stays(line, monkeypatch):
    monkeypatch.setattr("blocks.data.storage.filesystem.PIECE", 4000)
    line.later = 500
    assert fetched() == DATA
    assert line.asked[:4] == [(0, 4000), (4000, 8000), (4000, 4500), (4500, 5000)]


def test_a_line_that_gives_nothing_is_asked_for_what_the_least_moves(line):
    line.first = 0
    with pytest.raises(FetchError, match=r"each time: no answer in 0\.2 s"):
        fetched()
    assert len(line.asked) == QUICK.attempts
    assert line.asked[-1] == (0, LEAST_PIECE)
