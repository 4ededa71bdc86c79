"""A swept run's memory is its own, and only a run that is not finite stands still."""

import attrs
import pytest
import torch

from blocks import tree
from blocks.objectives.supervised import Supervised
from blocks.train.step import init_state, make_step
from blocks.train.sweep_step import init_sweep, make_sweep_step, run_of
from tests.train import small_problem
from tests.train.small_problem import assert_close, same
from tests.train.small_sweep import keys, optimizers


def test_a_run_that_is_not_finite_stands_still_alone():
    """Its params, optimizer and memory stay; the other runs do not notice, bit for bit."""
    objective = small_problem.Remembering(Supervised(small_problem.net(), 0.1))
    step, healthy = make_sweep_step(objective, optimizers(), clip_norm=1.0), init_sweep(objective, optimizers(), keys())
    ill = tree.clone(healthy)
    ill.params["fc1"]["weight"][1, 0, 0] = torch.nan
    for number in range(2):
        healthy, _ = step(healthy, small_problem.batch_of(seed=number))
        ill, metrics = step(ill, small_problem.batch_of(seed=number))
    for place in (0, 2, 3):
        assert same(run_of(ill, place), run_of(healthy, place))
    assert ill.skipped.tolist() == metrics["skipped"].tolist() == [0, 2, 0, 0]
    assert ill.step.tolist() == [2, 2, 2, 2]
    start = init_sweep(objective, optimizers(), keys())
    for part in ("optimizer", "memory"):
        assert same(run_of(getattr(ill, part), 1), run_of(getattr(start, part), 1)), part
    assert torch.equal(ill.params["fc2"]["weight"][1], start.params["fc2"]["weight"][1])


@attrs.frozen(eq=False)
class Seen:
    """A memory that is no dict."""

    count: torch.Tensor
    mean: torch.Tensor


@attrs.frozen
class Averaging:
    """Its memory follows the params."""

    supervised: Supervised
    draws: bool = False

    def init(self, key):
        return self.supervised.init(key)[0], Seen(torch.zeros((), dtype=torch.int64), torch.zeros(5))

    def loss(self, params, memory, batch, key):
        assert key is None
        loss, _, metrics = self.supervised.loss(params, {}, batch, None)
        mean = 0.9 * memory.mean + 0.1 * params["fc2"]["bias"] + batch["index"].sum()
        return loss, Seen(memory.count + 1, mean), metrics


def test_each_run_has_its_own_memory_which_may_be_any_tree():
    objective = Averaging(Supervised(small_problem.net(rate=0.0)))
    (many, _), alone = _three_steps(objective)
    assert isinstance(many.memory, Seen)
    assert many.memory.count.tolist() == [3, 3, 3, 3]
    for place, state in enumerate(alone):
        assert_close(run_of(many.memory, place), state.memory)
    assert not torch.equal(many.memory.mean[0], many.memory.mean[3])


@attrs.frozen
class Turned(small_problem.Remembering):
    """Its loss returns the same memory in another order."""

    def loss(self, params, memory, batch, key):
        loss, memory, metrics = super().loss(params, memory, batch, key)
        return loss, dict(reversed(memory.items())), metrics


def test_a_memory_is_known_by_its_names_not_by_their_order():
    objective = Turned(Supervised(small_problem.net(), 0.1))
    (many, _), alone = _three_steps(objective)
    for place, state in enumerate(alone):
        assert_close(run_of(many.memory, place), state.memory)
        assert_close(run_of(many.params, place), state.params, rtol=0, atol=1e-5)  # as every sweep in float32


@attrs.frozen
class Growing(small_problem.Remembering):
    """Its loss returns one more number each step."""

    def loss(self, params, memory, batch, key):
        loss, memory, metrics = super().loss(params, memory, batch, key)
        return loss, {**memory, "more": loss.detach()}, metrics


def test_a_memory_of_another_form_is_refused_as_by_the_step():
    objective = Growing(Supervised(small_problem.net(), 0.1))
    step, state = make_sweep_step(objective, optimizers()), init_sweep(objective, optimizers(), keys())
    with pytest.raises(ValueError, match="the memory that loss returned has a new 'more'"):
        step(state, small_problem.batch_of())


def test_an_objective_that_settles_its_memory_is_refused():
    class Settling(small_problem.Remembering):
        def settle_(self, params, memory, skip):
            return memory, {}

    with pytest.raises(ValueError, match="Settling changes its memory after each update, and a sweep has no place"):
        init_sweep(Settling(Supervised(small_problem.net())), optimizers(), keys())


def _three_steps(objective):
    batches = [{"images": b["images"], "labels": b["labels"]} for b in map(small_problem.batch_of, (8, 8, 8))]
    many, step = init_sweep(objective, optimizers(), keys()), make_sweep_step(objective, optimizers())
    alone = [init_state(objective, o, k) for o, k in zip(optimizers(), keys(), strict=True)]
    for batch in batches:
        many, metrics = step(many, batch)
        alone = [make_step(objective, o)(s, batch)[0] for o, s in zip(optimizers(), alone, strict=True)]
    return (many, metrics), alone
