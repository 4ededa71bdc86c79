"""What stands in the step between the gradient and the optimizer."""

import pytest
import torch

from blocks import tree
from blocks.optim.clip import ClipAdaptive, ClipNorm, ClipValue
from blocks.random import key
from blocks.train.step import init_state, make_step
from tests.train.small_problem import Descent, assert_close, batch_of, moved, same, setup


def test_clipping_bounds_the_update_and_reports_the_norm_before_it():
    objective, optimizer = setup(ema=False)[0], Descent()
    state = init_state(objective, optimizer, key(3))
    free, metrics = make_step(objective, optimizer)(state, batch_of())
    clipped, same_metrics = make_step(objective, optimizer, clip_norm=0.01)(state, batch_of())
    assert metrics["grad_norm"] == same_metrics["grad_norm"] > 0.01
    assert moved(clipped, state) == pytest.approx(0.01, rel=1e-3)
    assert moved(free, state) == pytest.approx(metrics["grad_norm"].item(), rel=1e-3)


def test_any_clip_stands_between_gradient_and_optimizer():
    objective, optimizer = setup(ema=False)[0], Descent()
    state = init_state(objective, optimizer, key(3))
    free, _ = make_step(objective, optimizer)(state, batch_of())
    gradient = tree.map(torch.sub, state.params, free.params)
    by_value, _ = make_step(objective, optimizer, clip=ClipValue(0.01))(state, batch_of())
    assert_close(by_value.params, tree.map(lambda p, g: p - g.clamp(-0.01, 0.01), state.params, gradient))
    named, _ = make_step(objective, optimizer, clip=ClipNorm(0.01))(state, batch_of())
    short, _ = make_step(objective, optimizer, clip_norm=0.01)(state, batch_of())
    assert same(named, short)
    adaptive = ClipAdaptive(0.01, exempt=("fc2.*",))
    units, _ = make_step(objective, optimizer, clip=adaptive)(state, batch_of())
    assert same(units.params["fc2"], free.params["fc2"])
    moves = (units.params["fc1"]["weight"] - state.params["fc1"]["weight"]).norm(dim=1)
    assert (moves <= 0.0101 * state.params["fc1"]["weight"].norm(dim=1).clamp(min=1e-3)).all()
    assert not same(units.params["fc1"], free.params["fc1"])
