"""The step survives what is not finite."""

import pytest
import torch

from blocks import tree
from blocks.random import bernoulli
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


def test_an_infinite_loss_under_a_finite_gradient_is_skipped_too():
    class Far:
        """What is added to the loss moves no gradient."""

        draws = False

        def init(self, key):
            return {"w": torch.ones(2)}, {}

        def loss(self, params, memory, batch, key):
            return params["w"].sum() + batch["far"].sum(), memory, {}

    objective, optimizer, state = setup(objective=Far(), ema=False)
    new, metrics = make_step(objective, optimizer)(state, {"far": torch.tensor([0.0, torch.inf])})
    assert metrics["grad_norm"].isfinite()
    assert metrics["skipped"] == 1
    assert same(new.params, state.params)


def test_what_broke_a_step_is_looked_for_with_the_numbers_that_it_drew():
    class Dice:
        """Breaks in about every second step, as the key falls."""

        def init(self, key):
            return {"w": torch.ones(2)}, {}

        def loss(self, params, memory, batch, key):
            return (params["w"] * torch.where(bernoulli(key, 0.5), torch.nan, 1.0)).sum(), memory, {}

    objective, optimizer, state = setup(objective=Dice(), ema=False)
    step, found = make_step(objective, optimizer), []
    for _ in range(12):
        state, metrics = step(state, batch_of())
        found.append((bool(metrics["skipped"]), step.broken(state, batch_of()) == ["w"]))
    assert set(found) == {(False, False), (True, True)}


def test_after_a_skip_the_step_names_the_params_whose_gradient_is_not_finite():
    objective, optimizer, state = setup(ema=False)
    broken, step = batch_of(), make_step(objective, optimizer, accumulate=2, donate=True)
    broken["images"][0] = torch.nan
    state, _ = step(state, broken)
    before = tree.clone(state)
    assert step.broken(state, broken) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    assert step.broken(state, batch_of()) == []
    assert same(state, before)
