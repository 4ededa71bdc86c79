"""Schedules one after another, and in steps of an epoch."""

import math

import pytest
import torch

from blocks.optim.composite import composite, per_epoch
from blocks.optim.schedule import constant, cosine, linear

STEPS = 200
WARMUP, DECAY = linear(2.5e-4, 5e-4, STEPS), cosine(5e-4, 0.0, STEPS)


def values(scaling, lengths=(0.05, 0.95)):
    schedule = composite([WARMUP, DECAY], lengths, STEPS, scaling)
    return [schedule(step).item() for step in range(STEPS + 1)]


def vissl(scaling, where):
    """fvcore's composite of a linear and a cosine schedule, written down from its rule: stages see 0 to 1."""
    if where < 0.05:
        return 2.5e-4 + 2.5e-4 * (where / 0.05 if scaling[0] == "rescaled" else where)
    seen = (where - 0.05) / 0.95 if scaling[1] == "rescaled" else where
    return 0.5 * 5e-4 * (1 + math.cos(math.pi * seen))


@pytest.mark.parametrize("scaling", [("rescaled", "rescaled"), ("rescaled", "fixed"), ("fixed", "fixed")])
def test_both_interval_scalings_are_vissls_at_every_step(scaling):
    expected = [vissl(scaling, step / STEPS) for step in range(STEPS)]
    assert values(scaling)[:STEPS] == pytest.approx(expected, rel=1e-12)


def test_rescaled_stages_join_where_fixed_ones_jump():
    """5e-4 to 4.969e-4 with 5 % of warm-up, as VISSL's DeiT recipe has it."""
    rescaled, fixed = values(("rescaled", "rescaled")), values(("rescaled", "fixed"))
    assert rescaled[10] == 5e-4
    assert fixed[9] == pytest.approx(4.75e-4)
    assert fixed[10] == pytest.approx(4.969e-4, rel=1e-4)
    assert rescaled[0] == fixed[0] == 2.5e-4
    assert rescaled[STEPS] == fixed[STEPS] == 0


def test_all_stages_are_rescaled_unless_told_otherwise():
    assert values(None) == values(("rescaled", "rescaled"))


@pytest.mark.parametrize("steps", [10, 100, 1_000_000])
def test_an_edge_is_not_missed_by_rounding(steps):
    """0.1 + 0.2 is above 0.3; the third stage begins at 30 % of the steps all the same."""
    schedule = composite([constant(0.0), constant(1.0), constant(2.0)], [0.1, 0.2, 0.7], steps)
    second, third = steps // 10, 3 * steps // 10
    assert [schedule(step).item() for step in (second - 1, second, third - 1, third)] == [0, 1, 1, 2]
    assert [schedule(step).item() for step in (steps - 1, steps, 5 * steps)] == [2, 2, 2]


def test_one_step_is_a_run_and_an_epoch():
    assert composite([linear(0.0, 1.0, 1)], [1.0], 1)(1) == per_epoch(linear(0.0, 1.0, 1), 1)(1) == 1.0


def test_a_stage_may_be_shorter_than_a_step():
    schedule = composite([linear(0.0, 1.0, 10), constant(2.0)], [0.05, 0.95], 10)
    assert [schedule(step).item() for step in (0, 1, 2)] == [0, 2, 2]
    assert schedule(torch.tensor(0.25)).item() == pytest.approx(0.5)


def test_one_stage_is_the_schedule():
    schedule = composite([DECAY], [1.0], STEPS)
    assert [schedule(s).item() for s in range(0, STEPS, 20)] == [DECAY(s).item() for s in range(0, STEPS, 20)]


def test_per_epoch_stands_still_within_an_epoch():
    schedule = per_epoch(linear(0.0, 1.0, 10), 4)
    assert [schedule(step).item() for step in range(10)] == pytest.approx([0] * 4 + [0.4] * 4 + [0.8] * 2)


@pytest.mark.parametrize("schedule", [composite([WARMUP, DECAY], [0.5, 0.5], 10), per_epoch(DECAY, 3)])
def test_a_step_may_be_a_tensor_and_stays_as_it_is(schedule):
    for step in (torch.tensor(7), torch.tensor(7.0, dtype=torch.float64)):
        assert torch.equal(schedule(step), schedule(7))
        assert step == 7
    assert schedule(7).dtype == torch.float64
    assert schedule(7).shape == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([WARMUP], [0.5, 0.5], 10), "1 schedules, 2 lengths, 1 scalings"),
        (([], [], 10), "0 schedules"),
        (([WARMUP, DECAY], [0.5, 0.4], 10), r"lengths \[0\.5, 0\.4\]"),
        (([WARMUP, DECAY], [1.5, -0.5], 10), r"lengths \[1\.5, -0\.5\]"),
        (([WARMUP, DECAY], [1.0, 0.0], 10), r"lengths \[1\.0, 0\.0\]"),
        (([WARMUP, DECAY], [math.nan, 0.5], 10), r"lengths \[nan, 0\.5\]"),
        (([WARMUP, DECAY], [0.5, 0.5], 10, ["rescaled", "free"]), "'free' is unknown"),
        (([WARMUP], [1.0], 0), "total_steps 0"),
    ],
)
def test_impossible_composites_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        composite(*arguments)


def test_an_epoch_has_steps():
    with pytest.raises(ValueError, match="steps_per_epoch 0"):
        per_epoch(DECAY, 0)
