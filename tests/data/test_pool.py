import multiprocessing
import os
import subprocess
import sys
import time
from itertools import count

import pytest

from blocks.data.pool import process_map


def _negate(x):
    if x == 13:
        raise ValueError("13 is not taken")
    return -x


@pytest.mark.parametrize(("workers", "chunk"), [(0, 1), (1, 1), (2, 3)])
def test_results_come_in_order(workers, chunk):
    assert list(process_map(_negate, range(10), workers, chunk)) == [-x for x in range(10)]


def test_an_error_in_a_worker_is_the_callers():
    with pytest.raises(ValueError, match="13 is not taken"):
        list(process_map(_negate, range(40), 2))


def test_only_a_few_items_are_taken_ahead():
    """An endless source would otherwise fill the memory."""
    source = count(20)
    results = process_map(_negate, source, 2)
    assert [next(results) for _ in range(5)] == [-20, -21, -22, -23, -24]
    results.close()
    assert next(source) < 60


class _CountsCopies:
    """A function that says how often it was copied to the process that called it."""

    def __init__(self, copies=0):
        self.copies = copies

    def __reduce__(self):
        return _CountsCopies, (self.copies + 1,)

    def __call__(self, _):
        return self.copies


def test_a_function_is_handed_over_at_most_once():
    """It may hold a whole data set."""
    function = _CountsCopies()
    assert max(process_map(function, range(10), 2)) <= 1


THREADS = """
import torch
from blocks.data.pool import process_map

def total(side):
    return int(torch.ones(side, side).sin().gt(0).sum())

torch.set_num_threads(2)
assert total(2000) == 2000**2
assert list(process_map(total, [2000, 1000], 2)) == [2000**2, 1000**2]
"""


def test_workers_compute_after_their_parent_did_in_threads():
    """In a process of its own: what failed did not end."""
    subprocess.run([sys.executable, "-c", THREADS], check=True, timeout=60)


def _pid(_):
    return os.getpid()


def _start_a_pool(pids):
    for pid in process_map(_pid, count(), 2):
        pids.put(pid)


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_pools_workers_end_when_their_parent_is_killed():
    context = multiprocessing.get_context("fork")
    pids = context.SimpleQueue()
    parent = context.Process(target=_start_a_pool, args=(pids,))
    parent.start()
    workers = {pids.get() for _ in range(20)}
    parent.kill()
    parent.join()
    end = time.monotonic() + 20
    while any(map(_runs, workers)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(map(_runs, workers))
