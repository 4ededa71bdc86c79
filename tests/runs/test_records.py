"""JSON lines."""

import math

from blocks.runs.records import RecordFile, numbers, read, waiting_share


def test_numbers_that_are_not_finite_are_null_inside_lists_too(tmp_path):
    with RecordFile(tmp_path / "a.jsonl", 0) as file:
        file.write({"step": 1, "gates": [[0.5, math.nan], (math.inf,)]})
    assert read(tmp_path / "a.jsonl") == [{"step": 1, "gates": [[0.5, None], [None]]}]


def test_curves_are_named_by_kind_and_are_numbers():
    assert numbers({"kind": "epoch", "step": 3, "loss": 0.5, "note": "x", "k": [1]}) == {"epoch/loss": 0.5}


def test_the_wait_for_data_is_a_share_of_the_time_of_those_epochs_that_know_it():
    epochs = [{"seconds": 9.0}, {"seconds": 6.0, "waited_seconds": 1.0}, {"seconds": 2.0, "waited_seconds": 1.0}]
    assert waiting_share(epochs) == 0.25
    assert waiting_share(epochs[:1]) is None
    assert waiting_share([{"seconds": 0.0, "waited_seconds": 0.0}]) is None
