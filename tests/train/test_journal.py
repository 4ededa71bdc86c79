"""What the loop tells of a run, by a clock of the test's own."""

import io

import pytest

from blocks.runs.metrics_log import MetricsLog
from blocks.runs.records import read
from blocks.train import journal
from blocks.train.journal import Journal
from blocks.train.progress import Screen
from blocks.train.readings import Totals


@pytest.fixture
def clock(monkeypatch):
    """[seconds], which stand still until a test moves them."""
    now = [100.0]
    monkeypatch.setattr(journal.time, "monotonic", lambda: now[0])
    return now


def kept(folder, clock, log_every, file=None):
    """A journal of epochs of 4 steps of 8 images."""
    screen = Screen(steps_per_epoch=4, epochs=2, file=file or io.StringIO())
    return Journal(screen, MetricsLog(folder, 0), [], Totals(), 8, 4, log_every, 3, clock=clock[0])


def step(told, number, clock, seconds, **values):
    clock[0] += seconds
    told.step(number, {"stop": 0.0, "loss": 1.0, "grad_norm": 1.0, "skipped": 0.0, "lr": 0.1, **values})


def test_rates_and_times_are_of_all_steps_since_the_last_line_and_of_the_epoch_s_steps_alone(tmp_path, clock):
    told = kept(tmp_path, clock, log_every=2)
    for number, seconds in enumerate((7.0, 1.0, 1.0, 3.0), 1):
        step(told, number, clock, seconds)
    clock[0] += 50.0  # evaluation
    told.epoch(4, {"val_top1": 0.5}, 50.0)
    step(told, 5, clock, 2.0)
    told.totals.waited = 0.5
    step(told, 6, clock, 2.0)
    told.epoch(6, {}, 0.0)
    steps = [r for r in read(tmp_path / "metrics.jsonl") if r["kind"] == "step"]
    # the first step, of which the bar tells at once, is no line's, and no rate's
    assert [(r["step"], r["epoch"], r["images_per_second"]) for r in steps] == [(2, 0.5, 8), (4, 1, 4), (6, 1.5, 4)]
    assert "stop" not in steps[0]
    first, second = told.history
    assert (first["seconds"], first["images"], first["images_per_second"]) == (12.0, 32, 32 / 12)
    assert (first["epoch"], first["evaluation_seconds"], first["val_top1"]) == (1, 50.0, 0.5)
    assert (second["seconds"], second["images"], second["waited_seconds"]) == (4.0, 16, 0.5)


def test_a_clock_that_stands_still_gives_no_rate(tmp_path, clock):
    told = kept(tmp_path, clock, log_every=1)
    step(told, 1, clock, 0.0)
    told.epoch(1, {}, 0.0)
    assert [record["images_per_second"] for record in read(tmp_path / "metrics.jsonl")] == [None, None]


@pytest.mark.parametrize(("mean", "alarmed"), [(0.25, True), (0.5, False), (float("nan"), True)])
def test_a_mean_below_the_lowest_healthy_one_is_an_alarm(tmp_path, clock, mean, alarmed):
    file = io.StringIO()
    told = kept(tmp_path, clock, log_every=9, file=file)
    told.alarms = {"spread": 0.5, "unknown": 1.0}
    step(told, 1, clock, 1.0, spread=mean)
    told.epoch(1, {}, 0.0)
    assert file.getvalue().count("ALARM: ") == file.getvalue().count("ALARM: in epoch 0 spread was") == alarmed


def test_an_overflow_is_told_where_there_is_a_loss_scale_and_no_update_counts_as_skipped(tmp_path, clock):
    file = io.StringIO()
    told = kept(tmp_path, clock, log_every=9, file=file)
    step(told, 1, clock, 1.0, loss_scale=8.0)
    assert "overflowed" not in file.getvalue()
    step(told, 2, clock, 1.0, loss_scale=8.0, grad_norm=float("inf"))
    assert "step 2: the gradient overflowed at loss scale 8; update skipped, scale lowered" in file.getvalue()
    assert told.totals.steps == 1
