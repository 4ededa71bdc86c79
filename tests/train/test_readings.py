"""Metrics on their way to the host."""

import math

import torch

from blocks.train.readings import Readings, Totals


def put(readings, step, **values):
    readings.put(step, {name: torch.tensor(value) for name, value in values.items()}, stop=False)


def test_a_step_is_read_as_many_steps_later_as_the_lag():
    readings = Readings(torch.device("cpu"), 1, lag=2)
    seen = []
    for step in range(1, 6):
        put(readings, step, loss=float(step))
        seen.append([number for number, _ in readings.take()])
    assert seen == [[], [], [1], [2], [3]]
    assert list(readings.take(all=True)) == [(s, {"stop": 0.0, "loss": float(s)}) for s in (4, 5)]


def test_a_reading_is_not_changed_by_a_later_donated_step():
    readings = Readings(torch.device("cpu"), 1, lag=2)
    loss = torch.tensor(1.0)
    readings.put(1, {"loss": loss}, stop=True)
    loss.fill_(9.0)
    assert list(readings.take(all=True)) == [(1, {"stop": 1.0, "loss": 1.0})]


def test_small_learning_rates_keep_their_digits():
    readings = Readings(torch.device("cpu"), 1)
    readings.put(
        1, {"loss": torch.tensor(1.0), "lr": torch.tensor(1.23456789012345e-9, dtype=torch.float64)}, stop=False
    )
    assert next(iter(readings.take()))[1]["lr"] == 1.23456789012345e-9


def test_means_leave_out_steps_that_were_not_finite():
    totals = Totals()
    for loss in (1.0, math.nan, 3.0):
        totals.add({"loss": loss}, 8)
    assert totals.means() == {"loss": 2.0}
    assert (totals.steps, totals.images) == (2, 24)
    assert Totals().means() == {}


def test_a_metric_that_is_not_finite_spoils_no_other_s_mean():
    totals = Totals()
    for metric, norm in ((1.0, 1.0), (math.nan, 2.0), (2.0, math.inf)):
        totals.add({"loss": norm, "grad_norm": norm, "metric": metric}, 8)
    means = totals.means()
    assert means["loss"] == 1.5
    assert math.isnan(means["metric"])


def test_the_waits_for_batches_add_up():
    totals = Totals()
    for values in ({"waited": 0.5}, {"waited": 0.25}, {}):
        totals.add({"loss": 1.0, **values}, 8)
    assert totals.waited == 0.75
