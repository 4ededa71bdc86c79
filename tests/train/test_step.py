"""The step is a pure function, also of a state that it may reuse, and draws by the key and the step alone."""

import pytest
import torch

from blocks import tree
from blocks.objectives.supervised import Supervised
from blocks.random import key
from blocks.train.step import init_state, make_step
from tests.train.small_problem import Descent, assert_pure, batch_of, net, run, same, setup

ALL = {"accumulate": 2, "clip_norm": 0.5, "ema_decay": 0.9}
EVERY = [{"ema_decay": 0.9}, ALL, *({**ALL, "precision": half} for half in ("bfloat16", "float16"))]


@pytest.mark.parametrize("knobs", EVERY)
def test_the_step_is_a_pure_function(knobs):
    objective, optimizer, state = setup(precision=knobs.get("precision", "float32"))
    step, batch = make_step(objective, optimizer, **knobs), batch_of()
    torch.manual_seed(5)
    assert_pure(step, state, batch)


@pytest.mark.parametrize("knobs", EVERY)
def test_a_donated_state_gives_the_same_and_keeps_its_storage(knobs):
    objective, optimizer, state = setup(precision=knobs.get("precision", "float32"))
    pure = run(make_step(objective, optimizer, **knobs), state)
    donated = tree.clone(state)
    places = {n: t.data_ptr() for n, t in tree.flatten(donated.params).items()}
    result = run(make_step(objective, optimizer, donate=True, **knobs), donated)
    assert same(result[0], pure[0])
    assert same(result[1], pure[1])
    assert {n: t.data_ptr() for n, t in tree.flatten(result[0].params).items()} == places


def test_a_donating_step_sees_that_it_got_another_state():
    """It keeps leaf copies of the state that it updates; a new state, or a leaf put in by hand, needs new ones."""
    objective, optimizer, state = setup(ema=False)
    other = init_state(objective, optimizer, key(77))
    pure, donating = make_step(objective, optimizer), make_step(objective, optimizer, donate=True)
    donating(tree.clone(state), batch_of())
    first, _ = donating(tree.clone(other), batch_of())
    assert same(first, pure(other, batch_of())[0])
    first.params["fc2"]["weight"] = torch.zeros(5, 16)
    expected = pure(first, batch_of())[0]
    assert same(donating(first, batch_of())[0], expected)


def test_metrics_of_an_earlier_step_stay_when_the_state_is_donated():
    objective, optimizer, state = setup(ema=False)
    step = make_step(objective, optimizer, donate=True)
    state, first = step(state, batch_of())
    kept = tree.clone(first)
    step(state, batch_of(seed=1))
    assert same(first, kept)


def test_no_tensor_of_the_result_carries_a_graph():
    objective, optimizer, state = setup()
    state, metrics = make_step(objective, optimizer, **ALL)(state, batch_of())
    assert not any(t.requires_grad for t in tree.flatten({"state": state, "metrics": metrics}).values())


def test_parameters_without_a_gradient_stay_where_weight_decay_does_not_reach():
    objective, optimizer, state = setup(ema=False)
    new, _ = run(make_step(objective, optimizer), state)
    assert same(new.params["spare"]["bias"], state.params["spare"]["bias"])


def test_the_key_stays_and_the_numbers_change_with_the_step():
    objective, _, _ = setup(rate=0.5, ema=False)
    step, state = make_step(objective, Still()), init_state(objective, Still(), key(3))
    one, first = step(state, batch_of())
    _, second = step(one, batch_of())
    assert torch.equal(one.key, state.key)
    assert first["loss"] != second["loss"]


class Still(Descent):
    """Never moves."""

    def update_(self, params, grads, state, *, skip=None):
        return {}


def test_an_objective_that_draws_nothing_gets_no_key():
    class Keyless(Supervised):
        def loss(self, params, memory, batch, key):
            assert key is None
            return super().loss(params, memory, batch, key)

    objective, optimizer, state = setup(objective=Keyless(net(0.0)), ema=False)
    make_step(objective, optimizer)(state, batch_of())
