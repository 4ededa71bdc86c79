"""The step survives what is not finite."""

import pytest
import torch

from blocks import tree
from blocks.train.step import make_step
from tests.train.small_problem import batch_of, same, setup


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_what_is_not_finite_changes_nothing_but_the_clock(bad, donate, accumulate):
    objective, optimizer, state = setup()
    step = make_step(objective, optimizer, ema_decay=0.9, accumulate=accumulate, clip_norm=1.0, donate=donate)
    state, _ = step(state, batch_of())
    before = tree.clone(state)
    broken = batch_of(seed=1)
    broken["images"][0, 0, 0, 0] = bad
    for times in (1, 2):
        state, metrics = step(state, broken)
        assert metrics["skipped"] == state.skipped == times
        assert not metrics["loss"].isfinite()
        assert state.step == 1 + times
        for part in ("params", "optimizer", "ema", "memory", "key"):
            assert same(getattr(state, part), getattr(before, part)), part
    state, metrics = step(state, batch_of(seed=2))
    assert metrics["skipped"] == state.skipped == 0
    assert not same(state.params, before.params)
    assert all(t.isfinite().all() for t in tree.flatten(state).values())


def test_an_infinite_gradient_under_a_finite_loss_is_skipped_too():
    class Root:
        """sqrt has an infinite slope at 0."""

        draws = False

        def init(self, key):
            return {"w": torch.zeros(2)}, {}

        def loss(self, params, memory, batch, key):
            return params["w"].sqrt().sum(), memory, {}

    objective, optimizer, state = setup(objective=Root(), ema=False)
    new, metrics = make_step(objective, optimizer)(state, batch_of())
    assert metrics["loss"] == 0
    assert metrics["skipped"] == 1
    assert same(new.params, state.params)


def test_after_a_skip_the_step_names_the_params_whose_gradient_is_not_finite():
    objective, optimizer, state = setup(ema=False)
    broken, step = batch_of(), make_step(objective, optimizer, accumulate=2, donate=True)
    broken["images"][0] = torch.nan
    state, _ = step(state, broken)
    before = tree.clone(state)
    assert step.broken(state, broken) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    assert step.broken(state, batch_of()) == []
    assert same(state, before)
