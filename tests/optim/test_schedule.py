"""Schedules: their values, and that they take tensors."""

import math

import pytest
import torch

from blocks.optim.schedule import (
    constant,
    cosine,
    inverse_sqrt,
    linear,
    scaled_lr,
    step_decay,
    warmup_cosine,
)


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


ALL = [
    warmup_cosine(1.0, 2, 9),
    warmup_cosine(1.0, 0, 9),
    constant(0.3),
    linear(1.0, 0.2, 9),
    cosine(0.996, 1.0, 9),
    step_decay(1.0, 0.5, every=3),
    step_decay(1.0, 0.5, milestones=(2, 4)),
    inverse_sqrt(1.0, 3),
]


@pytest.mark.parametrize("schedule", ALL)
def test_a_step_may_be_a_tensor_and_stays_as_it_is(schedule):
    step = torch.tensor(4)
    assert torch.equal(schedule(step), schedule(4))
    assert schedule(4).dtype == torch.float64
    assert schedule(4).shape == ()
    assert step == 4
    double = torch.tensor(4.0, dtype=torch.float64)
    schedule(double)
    assert double == 4
    assert schedule(torch.tensor(4, device="meta")).device.type == "meta"  # where a step lies, its value does


@pytest.mark.parametrize(
    "schedule",
    [
        *ALL,
        warmup_cosine(1.0, 2, 9, start=0.1, end=0.2),
        inverse_sqrt(1.0, 3, start=2.0),
        *(step_decay(2.0, gamma, every=1) for gamma in (0.0, 1.0, 2.0)),
        *(step_decay(2.0, gamma, milestones=(2, 4, 7)) for gamma in (0.0, 1.0, 3.0)),
    ],
)
def test_its_values_run_between_its_ends(schedule):
    """As who checks a rate or a momentum before a run trusts; what comes near an end only after ages, is near it."""
    values = [float(schedule(step)) for step in (*range(20), 10**9)]
    assert (min(values), max(values)) == pytest.approx((min(schedule.ends), max(schedule.ends)), abs=1e-4)


def test_a_line_and_half_a_cosine_go_from_start_to_end_and_stay_there():
    line, wave = linear(0.04, 0.4, 10), cosine(0.996, 1.0, 10)
    assert [line(s).item() for s in (0, 5, 10, 20)] == pytest.approx([0.04, 0.22, 0.4, 0.4], abs=1e-15)
    assert [wave(s).item() for s in (0, 5, 10, 20)] == pytest.approx([0.996, 0.998, 1.0, 1.0], abs=1e-15)
    assert wave(2).item() == pytest.approx(1 - 0.004 * (1 + math.cos(math.pi / 5)) / 2, abs=1e-15)


def test_steps_go_down_every_so_often_or_at_milestones():
    often, at = step_decay(1.0, every=30), step_decay(1.0, 0.1, milestones=(30, 60, 80))
    assert [often(s).item() for s in (0, 29, 30, 59, 60, 90)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.001])
    assert [at(s).item() for s in (0, 29, 30, 60, 79, 80, 500)] == pytest.approx([1, 1, 0.1, 0.01, 0.01, 1e-3, 1e-3])


def test_steps_equal_torchs():
    theirs = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(theirs, [3, 7], gamma=0.3)
    ours = step_decay(0.5, 0.3, milestones=(3, 7))
    for number in range(10):
        assert ours(number).item() == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-14)
        theirs.step()
        scheduler.step()


def test_inverse_sqrt_is_the_transformers():
    """Vaswani et al. 2017, equation 3: d**-0.5 * min(step**-0.5, step * warmup**-1.5)."""
    schedule = inverse_sqrt(512**-0.5 * 40**-0.5, 40)
    for number in range(1, 200):
        expected = 512**-0.5 * min(number**-0.5, number * 40**-1.5)
        assert schedule(number).item() == pytest.approx(expected, rel=1e-12)
    assert schedule(0) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: linear(1.0, 0.0, 0), "total_steps 0"),
        (lambda: cosine(1.0, 0.0, -1), "total_steps -1"),
        (lambda: inverse_sqrt(1.0, 0), "warmup_steps 0"),
        (lambda: step_decay(1.0, -0.1, every=3), "gamma -0.1"),
        (lambda: step_decay(1.0, -0.1, milestones=(2, 4)), "gamma -0.1"),
        (lambda: step_decay(1.0, math.nan, every=3), "gamma nan"),
        (lambda: step_decay(1.0), "give one of the two"),
        (lambda: step_decay(1.0, every=3, milestones=(3,)), "give one of the two"),
        (lambda: step_decay(1.0, every=0), "every 0"),
        (lambda: step_decay(1.0, milestones=(5, 3)), r"milestones \(5, 3\)"),
        (lambda: step_decay(1.0, milestones=()), r"milestones \(\)"),
        (lambda: step_decay(1.0, milestones=(0, 3)), r"milestones \(0, 3\)"),
    ],
)
def test_impossible_schedules_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_no_warmup_starts_at_the_peak():
    assert warmup_cosine(1.0, 0, 9)(0) == 1.0


def test_a_run_of_warmup_alone_is_allowed():
    assert [warmup_cosine(1.0, 4, 4)(step).item() for step in (2, 4, 5)] == [0.5, 1.0, 0.0]


def test_one_step_is_a_run_and_a_rate_of_0_a_rate():
    for schedule in (linear(1.0, 0.0, 1), cosine(1.0, 0.0, 1), step_decay(1.0, 0.0, milestones=(1,))):
        assert [schedule(step).item() for step in (0, 1)] == [1.0, 0.0]
    assert warmup_cosine(0.0, 2, 10)(5) == scaled_lr(0.0, 1024, per=512) == 0.0


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ((-1e-3, 0.0, 0.0), "peak -0.001, start 0 and end 0"),
        ((1e-3, -1e-4, 0.0), "peak 0.001, start -0.0001 and end 0"),
        ((1e-3, 0.0, -1e-4), "peak 0.001, start 0 and end -0.0001"),
    ],
)
def test_a_rate_below_zero_is_refused(rates, said):
    peak, start, end = rates
    with pytest.raises(ValueError, match=f"{said} must not be negative"):
        warmup_cosine(peak, 2, 10, start=start, end=end)


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"start": 1e-6}, "start 1e-06 is above peak 5e-07"),
        ({"start": 5e-7, "end": 1e-5}, "end 1e-05 is above peak 5e-07"),
    ],
)
def test_a_rate_that_would_climb_all_run_is_refused(knobs, said):
    with pytest.raises(ValueError, match=said + "; use at most the peak, .*--lr, --batch-size, --min-lr"):
        warmup_cosine(5e-7, 2, 10, **knobs)


def test_a_rate_may_stand_still():
    assert warmup_cosine(5e-7, 2, 10, start=5e-7, end=5e-7)(7) == 5e-7


def test_a_warmup_longer_than_the_run_is_refused():
    with pytest.raises(ValueError, match="warmup_steps 11 does not lie between 0 and total_steps 10"):
        warmup_cosine(1.0, 11, 10)


def test_learning_rates_scale_with_the_batch():
    assert scaled_lr(5e-4, 1024, per=512) == 1e-3
    assert scaled_lr(5e-4, 2048, per=512, rule="sqrt") == 1e-3
    with pytest.raises(ValueError, match="'cubic' is unknown"):
        scaled_lr(1.0, 1, per=1, rule="cubic")
