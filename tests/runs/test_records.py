"""JSON lines."""

import math

from blocks.runs.records import RecordFile, numbers, read


def test_numbers_that_are_not_finite_are_null_inside_lists_too(tmp_path):
    with RecordFile(tmp_path / "a.jsonl", 0) as file:
        file.write({"step": 1, "gates": [[0.5, math.nan], (math.inf,)]})
    assert read(tmp_path / "a.jsonl") == [{"step": 1, "gates": [[0.5, None], [None]]}]


def test_curves_are_named_by_kind_and_are_numbers():
    assert numbers({"kind": "epoch", "step": 3, "loss": 0.5, "note": "x", "k": [1]}) == {"epoch/loss": 0.5}
