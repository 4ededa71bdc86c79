"""The checkpoint of the best epoch."""

import math
import os

import pytest

from blocks.runs import best, checkpoint
from blocks.runs.best import Best


def epoch(folder, step, value, history, metric="val_top1"):
    """An epoch as the loop has it: its checkpoint, the look at its value, its record."""
    checkpoint.save(folder, {}, step, {"step": step}, keep=1)
    Best(folder, metric).look(step, {metric: value}, history, none_needed)
    history.append({"step": step, metric: value})


def none_needed(path):
    """To write where the epoch has a checkpoint."""
    raise AssertionError(path)


def kept(folder):
    path = folder / best.NAME
    return checkpoint.read(path)[1]["step"] if path.is_file() else None


def test_the_best_epoch_s_checkpoint_outlives_the_newest_ones(tmp_path):
    history = []
    for step, value in ((1, 0.2), (2, 0.6), (3, 0.6), (4, math.nan), (5, 0.5)):
        epoch(tmp_path, step, value, history)
    assert kept(tmp_path) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.pt", "step-00000005.pt"]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_epoch_that_is_not_finite_is_none_to_beat(tmp_path, bad):
    """As when the run goes on: the record in its file is null."""
    history = []
    for step, value in ((1, bad), (2, 0.2), (3, bad), (4, 0.6), (5, 0.5)):
        epoch(tmp_path, step, value, history)
        assert kept(tmp_path) == {1: None, 2: 2, 3: 2}.get(step, 4)


def test_of_a_loss_the_lowest_is_the_best(tmp_path):
    history = []
    for step, value in ((1, 2.0), (2, 1.0), (3, 1.5)):
        epoch(tmp_path, step, value, history, "val_loss")
    assert kept(tmp_path) == 2


def test_looking_twice_at_an_epoch_leaves_one_file(tmp_path):
    """As after a kill between the look and the record."""
    epoch(tmp_path, 1, 0.5, [])
    Best(tmp_path, "val_top1").look(1, {"val_top1": 0.5}, [], none_needed)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.pt", "step-00000001.pt"]


def test_a_run_that_is_told_late_keeps_the_best_from_then_on(tmp_path):
    epoch(tmp_path, 2, 0.5, [{"step": 1, "val_top1": 0.9}])
    assert kept(tmp_path) == 2


def test_without_a_metric_and_on_other_processes_nothing_is_kept(tmp_path):
    epoch(tmp_path, 1, 0.5, [], metric="")
    Best(tmp_path, "val_top1", writes=False).look(1, {"val_top1": 1.0}, [], none_needed)
    Best(tmp_path, "val_top1", writes=False).look(9, {"val_top1": 1.0}, [], none_needed)
    assert kept(tmp_path) is None


def test_an_epoch_without_a_checkpoint_is_written_if_it_is_the_best(tmp_path):
    history, wrote = [], []
    epoch(tmp_path, 1, 0.5, history)
    for step, value in ((2, 0.4), (3, 0.6)):
        Best(tmp_path, "val_top1").look(step, {"val_top1": value}, history, wrote.append)
    assert wrote == [tmp_path / best.NAME]


def test_a_disk_without_second_names_gets_a_copy(tmp_path, monkeypatch):
    def refuses(*names):
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuses)
    epoch(tmp_path, 1, 0.5, [])
    assert kept(tmp_path) == 1


def test_a_kill_between_two_names_costs_no_checkpoint(tmp_path):
    """It leaves another name of that epoch's file, into which nobody may write a later epoch."""
    older, newer = (checkpoint.save(tmp_path, {}, step, {"step": step}) for step in (1, 2))
    ways = {2: lambda path: best.keep(newer, path), 3: lambda path: checkpoint.write(path, {}, {"step": 3})}
    for step, way in ways.items():
        os.link(older, tmp_path / "best.tmp")
        way(tmp_path / best.NAME)
        assert checkpoint.read(older)[1]["step"] == 1
        assert kept(tmp_path) == step
        assert not (tmp_path / "best.tmp").exists()


def test_an_unknown_metric_is_an_error_that_names_those_there_are(tmp_path):
    with pytest.raises(
        ValueError, match="best val_topp1 is no metric of the evaluations; there are val_top1, val_loss"
    ):
        Best(tmp_path, "val_topp1").look(1, {"val_top1": 0.5, "val_loss": 1.0}, [], none_needed)
    with pytest.raises(ValueError, match="this run evaluates nothing"):
        Best(tmp_path, "val_top1").look(1, {}, [], none_needed)
