"""The average of the params that the step keeps."""

import pytest
import torch

from blocks import tree
from blocks.optim.schedule import linear
from blocks.train.step import make_step
from tests.train.small_problem import assert_close, batch_of, same, setup


def test_the_average_of_the_params_follows_them():
    objective, optimizer, state = setup()
    assert same(state.ema, state.params)
    new, _ = make_step(objective, optimizer, ema_decay=0.75)(state, batch_of())
    expected = tree.map(lambda old, p: 0.75 * old + 0.25 * p, state.ema, new.params)
    assert_close(new.ema, expected)


def test_the_average_s_decay_may_follow_a_schedule_of_the_step():
    objective, optimizer, state = setup()
    step = make_step(objective, optimizer, ema_decay=linear(0.5, 0.9, 4))
    for number, decay in enumerate((0.5, 0.6, 0.7)):
        new, metrics = step(state, batch_of(seed=number))
        expected = tree.map(lambda old, p, d=decay: d * old + (1 - d) * p, state.ema, new.params)
        assert_close(new.ema, expected)
        assert metrics["ema_decay"] == pytest.approx(decay)
        state = new


def test_the_average_s_decay_may_be_any_function_of_the_step():
    objective, optimizer, state = setup()
    ours, plain = (make_step(objective, optimizer, ema_decay=d) for d in (linear(0.5, 0.9, 4), lambda s: 0.5 + s / 10))
    assert_close(plain(state, batch_of())[0].ema, ours(state, batch_of())[0].ema)
    with pytest.raises(ValueError, match=r"ema_decay OwnSchedule.* is not in \[0, 1\)"):
        make_step(objective, optimizer, ema_decay=lambda step: 2.0)


def test_params_may_be_one_tensor():
    class Bare:
        draws = False

        def init(self, key):
            return torch.ones(2, 3), {}

        def loss(self, params, memory, batch, key):
            return params.square().sum(), memory, {}

    objective, optimizer, state = setup(objective=Bare())
    new, _ = make_step(objective, optimizer, ema_decay=0.75)(state, batch_of())
    assert (new.params < 1).all()
    assert_close(new.ema, 0.75 * state.ema + 0.25 * new.params)


@pytest.mark.parametrize("ema", [True, False])
def test_a_state_and_a_step_that_disagree_about_the_average_are_an_error(ema):
    objective, optimizer, state = setup(ema=ema)
    with pytest.raises(ValueError, match="ema_decay"):
        make_step(objective, optimizer, ema_decay=None if ema else 0.9)(state, batch_of())
