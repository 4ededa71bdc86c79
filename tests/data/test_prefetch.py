"""One batch ahead, on a stand-in for the GPU's stream that notes who did what and when."""

import pytest
import torch

from blocks.data.loading.prefetch import one_ahead, side_stream


class Notes:
    """A side that works at once and notes it."""

    def __init__(self):
        self.notes = []

    def make(self, work, batch):
        self.notes.append(f"make {batch}")
        return work(batch)

    def hand_over(self, made):
        self.notes.append(f"hand over {int(made['x'])}")
        return made


def work(batch):
    return {"x": torch.tensor(batch)}


def test_a_batch_is_begun_before_the_one_before_is_given_away_and_after_that_is_waited_for():
    side = Notes()
    for made in one_ahead(range(3), work, side):
        side.notes.append(f"use {int(made['x'])}")
    assert side.notes == [
        *("make 0", "hand over 0", "make 1", "use 0"),
        *("hand over 1", "make 2", "use 1", "hand over 2", "use 2"),
    ]


@pytest.mark.parametrize("side", [None, Notes()])
@pytest.mark.parametrize("count", [0, 1, 4])
def test_every_batch_comes_once_and_in_order(side, count):
    assert [int(made["x"]) for made in one_ahead(iter(range(count)), work, side)] == list(range(count))


def test_without_a_side_nothing_is_made_ahead():
    asked = []
    made = one_ahead(range(3), lambda batch: asked.append(batch) or work(batch), None)
    next(made)
    assert asked == [0]


def test_leaving_it_closes_what_it_reads():
    closed = []

    def batches():
        try:
            yield from range(5)
        finally:
            closed.append(True)

    for side in (None, Notes()):
        made = one_ahead(batches(), work, side)
        next(made)
        made.close()
    assert closed == [True, True]


def test_a_cpu_has_no_side():
    assert side_stream(torch.device("cpu")) is None
