"""Tables on a device: found again, never waited for, and kept as long as a CUDA graph may read them. A CPU's own
stand for a GPU's: that a graph is captured, and that memory is pinned, is told.
"""

import pytest
import torch

pytest.importorskip("triton")

from blocks.ops.kernels import tables
from blocks.ops.kernels.tables import MOST, Tables

HERE = torch.device("cpu")


@pytest.fixture
def asked(monkeypatch):
    """How often pinned memory was asked for."""
    lengths = []
    real = tables.pinned

    def pinned(count, dtype, device):
        assert not tables.capturing(device), "no memory may be pinned during a capture"
        lengths.append(count)
        return real(count, dtype, device)

    monkeypatch.setattr(tables, "pinned", pinned)
    return lengths


@pytest.fixture
def capture(monkeypatch):
    """Says whether a graph is being captured."""
    return lambda on: monkeypatch.setattr(tables, "capturing", lambda device: on)


def never():
    raise AssertionError("it is known already")


def test_a_table_is_made_once_and_found_by_its_name(asked):
    own = Tables(torch.int32)
    first = own("name", lambda: [1, 2, 3], HERE)
    assert first.dtype == torch.int32
    assert first.tolist() == [1, 2, 3]
    assert own("name", never, HERE) is first


def test_a_new_table_of_a_capture_takes_memory_that_was_laid_aside_and_is_nobody_elses(asked, capture):
    own = Tables(torch.int64)
    own("before", lambda: [1, 2], HERE)
    capture(True)
    of_graph = own("new", lambda: [3, 4], HERE)
    assert of_graph.tolist() == [3, 4]
    capture(False)
    eager = own("new", lambda: [3, 4], HERE)  # a graph that was never replayed has copied nothing
    assert eager is not of_graph
    capture(True)
    assert own("another", lambda: [5, 6], HERE).tolist() == [5, 6]  # it was laid aside anew


def test_what_a_graph_reads_outlives_its_place_among_the_last_tables(asked, capture):
    own = Tables(torch.int64)
    known = own("known", lambda: [1], HERE)
    capture(True)
    assert own("known", never, HERE) is known
    new = own("new", lambda: [2], HERE)
    capture(False)
    for number in range(MOST + 1):
        own(number, lambda: [0], HERE)
    assert len(own.known) == MOST
    assert any(x is known for x in own.replayed)
    assert any(x is new for x in own.replayed)
    with pytest.raises(AssertionError, match="known already"):
        own("known", never, HERE)


def test_another_stream_has_a_copy_of_its_own_but_a_capture_waited_for_all(capture, monkeypatch):
    own = Tables(torch.int64)
    first = own("name", lambda: [7], HERE)
    monkeypatch.setattr(tables, "stream_of", lambda device: 1)
    assert own("name", lambda: [7], HERE) is not first
    monkeypatch.setattr(tables, "stream_of", lambda device: 2)
    capture(True)
    own("name", never, HERE)
