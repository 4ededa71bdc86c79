"""metrics.jsonl and TensorBoard's events."""

import json
import math
import sys

import pytest

from blocks.runs.metrics_log import MetricsLog
from blocks.runs.records import read


def write(folder, step, *records):
    with MetricsLog(folder, step) as log:
        for record in records:
            log.write(record)


def line(step, **values):
    return {"kind": "step", "step": step, **values}


def test_records_are_one_json_object_a_line_with_every_digit(tmp_path):
    write(tmp_path, 0, line(1, lr=1.2345678901234567e-10))
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == line(1, lr=1.2345678901234567e-10)


def test_a_record_is_in_the_file_at_once(tmp_path):
    with MetricsLog(tmp_path, 0) as log:
        log.write(line(1))
        assert read(log.path) == [line(1)]


def test_what_is_not_finite_becomes_null(tmp_path):
    write(tmp_path, 0, line(1, loss=math.nan, lr=math.inf))
    assert read(tmp_path / "metrics.jsonl") == [line(1, loss=None, lr=None)]


def test_after_an_interruption_no_step_is_there_twice(tmp_path):
    write(tmp_path, 0, *(line(step, run=1) for step in range(1, 8)))
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"kind": "st')  # cut short by a kill
    write(tmp_path, 4, *(line(step, run=2) for step in range(5, 9)))
    records = read(tmp_path / "metrics.jsonl")
    assert [(r["step"], r["run"]) for r in records] == [(s, 1 if s < 5 else 2) for s in range(1, 9)]


def test_a_line_that_is_no_record_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"kind": "step", "step": 1}\nhello\n')
    with pytest.raises(ValueError, match=r"line 2 of .*metrics.jsonl is not a record of metrics: 'hello'"):
        MetricsLog(tmp_path, 5)


def test_numbers_reach_tensorboard(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write(tmp_path, 0, line(3, loss=0.5))
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("step/loss")] == [(3, 0.5)]


def test_without_tensorboard_it_says_so_once_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    said = []
    with MetricsLog(tmp_path, 0, said.append) as log:
        log.write(line(1))
        log.write(line(2))
    assert len(said) == 1
    assert "pip install tensorboard" in said[0]
    assert len(read(tmp_path / "metrics.jsonl")) == 2
