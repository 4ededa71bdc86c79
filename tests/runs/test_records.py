"""JSON lines."""

import math
import os

import pytest

from blocks.runs.records import RecordFile, numbers, read, waiting_share


def test_numbers_that_are_not_finite_are_null_inside_lists_too(tmp_path):
    with RecordFile(tmp_path / "a.jsonl", 0) as file:
        file.write({"step": 1, "gates": [[0.5, math.nan], (math.inf,)]})
    assert read(tmp_path / "a.jsonl") == [{"step": 1, "gates": [[0.5, None], [None]]}]


def test_a_run_that_goes_on_has_its_records_on_the_disk_before_they_take_the_place_of_the_old(tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("replace"), replace(*names)))
    RecordFile(tmp_path / "a.jsonl", 0).close()
    assert calls == ["fsync", "replace", "fsync"]


def test_a_last_line_cut_within_a_letter_is_left_out(tmp_path):
    path = tmp_path / "new" / "folder" / "a.jsonl"
    RecordFile(path, 0).close()
    path.write_bytes(b'{"step": 0}\n{"step": 1, "note": "\xc3')
    assert read(path) == [{"step": 0}]


@pytest.mark.parametrize("line", ["[1]", '{"loss": 1.0}', '{"step": "1"}', '{"step": 1'])
def test_a_line_without_a_step_is_no_record(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(f'{{"step": 0}}\n{line}\n')
    with pytest.raises(ValueError, match=r"line 2 of .* is not a record"):
        read(tmp_path / "a.jsonl")


def test_curves_are_named_by_kind_and_are_numbers():
    assert numbers({"kind": "epoch", "step": 3, "loss": 0.5, "note": "x", "k": [1]}) == {"epoch/loss": 0.5}


def test_the_wait_for_data_is_a_share_of_the_time_of_those_epochs_that_know_it():
    epochs = [{"seconds": 9.0}, {"seconds": 6.0, "waited_seconds": 1.0}, {"seconds": 2.0, "waited_seconds": 1.0}]
    assert waiting_share(epochs) == 0.25
    assert waiting_share(epochs[:1]) is None
    assert waiting_share([{"seconds": 0.0, "waited_seconds": 0.0}]) is None
