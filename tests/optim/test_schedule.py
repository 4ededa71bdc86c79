"""Schedules: their values, and that they take tensors."""

import math

import pytest
import torch

from blocks.optim.schedule import constant, scaled_lr, warmup_cosine


def test_warmup_cosine_hits_start_peak_half_way_and_end():
    schedule = warmup_cosine(1.0, 10, 110, start=0.1, end=0.2)
    assert [schedule(s).item() for s in (0, 5, 10)] == pytest.approx([0.1, 0.55, 1.0], abs=1e-15)
    assert [schedule(s).item() for s in (60, 110, 500)] == pytest.approx([0.6, 0.2, 0.2], abs=1e-15)


def test_warmup_cosine_equals_the_formula_at_every_step():
    schedule = warmup_cosine(5e-4, 5, 40, start=1e-6, end=1e-5)
    for step in range(45):
        cosine = 1e-5 + (5e-4 - 1e-5) * 0.5 * (1 + math.cos(math.pi * min((step - 5) / 35, 1)))
        expected = 1e-6 + (5e-4 - 1e-6) * step / 5 if step < 5 else cosine
        assert schedule(step).item() == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("schedule", [warmup_cosine(1.0, 2, 9), warmup_cosine(1.0, 0, 9), constant(0.3)])
def test_a_step_may_be_a_tensor_and_stays_as_it_is(schedule):
    step = torch.tensor(4)
    assert torch.equal(schedule(step), schedule(4))
    assert schedule(4).dtype == torch.float64
    assert schedule(4).shape == ()
    assert step == 4
    double = torch.tensor(4.0, dtype=torch.float64)
    schedule(double)
    assert double == 4


def test_no_warmup_starts_at_the_peak():
    assert warmup_cosine(1.0, 0, 9)(0) == 1.0


def test_a_run_of_warmup_alone_is_allowed():
    assert warmup_cosine(1.0, 4, 4)(2) == 0.5


def test_a_warmup_longer_than_the_run_is_refused():
    with pytest.raises(ValueError, match="warmup_steps 11 does not lie between 0 and total_steps 10"):
        warmup_cosine(1.0, 11, 10)


def test_learning_rates_scale_with_the_batch():
    assert scaled_lr(5e-4, 1024, per=512) == 1e-3
    assert scaled_lr(5e-4, 2048, per=512, rule="sqrt") == 1e-3
    with pytest.raises(ValueError, match="'cubic' is unknown"):
        scaled_lr(1.0, 1, per=1, rule="cubic")
