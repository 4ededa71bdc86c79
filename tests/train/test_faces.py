"""Whoever writes an objective or an optimizer is told of each mistake in one line, once."""

import re

import attrs
import pytest
import torch

from blocks import tree
from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.random import key
from blocks.train import batch_gradient
from blocks.train.step import init_state, make_step
from blocks.train.sweep_step import init_sweep, make_sweep_step
from tests.train.small_problem import Descent, batch_of, net

SUPERVISED = Supervised(net())


class Still:
    """An optimizer that moves nothing."""

    def init(self, params):
        return {}

    def update_(self, params, grads, state, *, skip=None):
        return {}


class WithoutSkip(Still):
    def update_(self, params, grads, state):
        return {}


def still(**methods):
    """An optimizer with some methods of its own."""
    return type("Mine", (Still,), methods)()


@pytest.mark.parametrize(
    ("objective", "optimizer", "said"),
    [
        (
            SUPERVISED,
            torch.optim.AdamW,
            r"torch.optim.adamw.AdamW is no optimizer: it has no init\(params\); give .*1e-3",
        ),
        (SUPERVISED, adamw, r"blocks.optim.adamw.adamw is no optimizer: .* give one like adamw\(1e-3\)"),
        (SUPERVISED, "adamw", r"builtins.str is no optimizer"),
        (
            adamw(1e-3),
            SUPERVISED,
            r"AdamW is no objective: it has no loss\(.*\); .* the objective before the optimizer",
        ),
        (Supervised, adamw(1e-3), r"supervised.Supervised is a class, not an objective; call it first"),
        (SUPERVISED, WithoutSkip(), r"WithoutSkip.update_ cannot be called as update_\(.*skip=\); it takes \(params, "),
        (net(), adamw(1e-3), r"Net is no objective: it has no loss\(params, memory, batch, key\)"),
    ],
)
def test_what_is_no_objective_or_optimizer_is_refused_when_it_is_given(objective, optimizer, said):
    with pytest.raises(ValueError, match=said):
        make_step(objective, optimizer)
    with pytest.raises(ValueError, match=said):
        init_state(objective, optimizer, key(0))
    with pytest.raises(ValueError, match=said):
        make_sweep_step(objective, [optimizer])


@pytest.mark.parametrize(
    ("state", "said"), [(None, "not NoneType; {} is an empty one"), ((), "not tuple"), ({"n": 0}, "not int")]
)
def test_an_optimizers_state_is_a_tree(state, said):
    with pytest.raises(
        ValueError, match=r"the state of the optimizer's init\(params\) must be a tree of tensors: .*" + said
    ):
        init_state(SUPERVISED, still(init=lambda self, params: state), key(0))


def replacing(self, params, grads, state, *, skip=None):
    params.update({name: value - grads[name] for name, value in params.items()})
    return {}


@pytest.mark.parametrize(
    ("update_", "said"),
    [
        (lambda self, *trees, skip=None: None, "the metrics of update_ are NoneType None, not a dict of tensors"),
        (lambda self, *trees, skip=None: trees[:2], "the metrics of update_ are a tuple of 2, not a dict"),
        (
            lambda self, *trees, skip=None: {"lr": 0.1},
            r"the metrics of update_ have 'lr': float 0.1; each is a tensor \[\]",
        ),
        (replacing, r"update_ replaced fc1.weight instead of writing into it; use fc1.weight.copy_\(new\)"),
    ],
)
def test_an_update_is_in_place_and_returns_metrics(update_, said):
    optimizer = still(update_=update_)
    with pytest.raises(ValueError, match=said):
        make_step(SUPERVISED, optimizer)(init_state(SUPERVISED, optimizer, key(0)), batch_of())


@attrs.frozen
class Own:
    """An objective whose init and loss return what they are given."""

    first: object = attrs.field(default=lambda params: (params, {}))
    found: object = attrs.field(default=lambda loss, memory: (loss, memory, {}))

    def init(self, key):
        return self.first(SUPERVISED.init(key)[0])

    def loss(self, params, memory, batch, key):
        return self.found(SUPERVISED.loss(params, {}, batch, key)[0], memory)


def one_step(objective, **knobs):
    return make_step(objective, Descent(), **knobs)(init_state(objective, Descent(), key(0)), batch_of())


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (
            lambda params: params,
            r"init\(key\) returned dict .*; it returns two, \(params, memory\), a memory {} for none",
        ),
        (lambda params: {"head": params, "tail": params}, r"init\(key\) returned dict .*; it returns two"),
        (lambda params: (params, {}, {}), r"init\(key\) returned a tuple of 3; it returns two"),
        (lambda params: (params, None), r"the memory of init\(key\) must be a tree of tensors: .* not NoneType"),
        (lambda params: ([params], {}), r"the params of init\(key\) must be a tree of tensors: .* not list"),
    ],
)
def test_an_objectives_init_returns_params_and_memory(first, said):
    with pytest.raises(ValueError, match=said):
        init_state(Own(first), Descent(), key(0))


BAD_OUTCOMES = [
    (
        lambda loss, memory: loss,
        r"the loss returned a tensor float32 \[\]; it returns three, loss\(params, memory, batch",
    ),
    (lambda loss, memory: (loss, {}), r"the loss returned a tuple of 2; it returns three"),
    (
        lambda loss, memory: (loss.expand(8), memory, {}),
        r"the loss is a tensor float32 \[8\]; it is one floating-point",
    ),
    (lambda loss, memory: (loss[None], memory, {}), r"the loss is a tensor float32 \[1\]; it is one floating-point"),
    (lambda loss, memory: (loss.item(), memory, {}), r"the loss is float .*; it is one"),
    (lambda loss, memory: (loss.detach(), memory, {}), r"the loss does not depend on the params"),
    (lambda loss, memory: (loss, memory, None), r"the metrics of loss are NoneType None, not a dict of tensors \[\]"),
    (
        lambda loss, memory: (loss, memory, {"a": 0.5}),
        r"the metrics of loss have 'a': float 0.5; each is a tensor \[\]",
    ),
    (lambda loss, memory: (loss, memory, {"a": torch.ones(2)}), r"have 'a': a tensor float32 \[2\]; each"),
]


@pytest.mark.parametrize("knobs", [{}, {"accumulate": 2}], ids=str)
@pytest.mark.parametrize(("found", "said"), BAD_OUTCOMES)
def test_a_loss_returns_itself_memory_and_metrics(found, said, knobs):
    with pytest.raises(ValueError, match=said):
        one_step(Own(found=found), **knobs)


@pytest.mark.parametrize(("found", "said"), BAD_OUTCOMES[:3] + BAD_OUTCOMES[5:])
def test_a_sweep_tells_the_same(found, said):
    optimizers, keys = [adamw(1e-3)] * 2, [key(0), key(1)]
    with pytest.raises(ValueError, match=said):
        make_sweep_step(Own(found=found), optimizers)(init_sweep(Own(found=found), optimizers, keys), batch_of())


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (lambda memory: None, "the memory that loss returned must be a tree of tensors"),
        (lambda memory: {}, "the memory that loss returned lacks 'n'; its names stay"),
        (lambda memory: {**memory, "m": torch.ones(2)}, "the memory that loss returned has a new 'm'"),
        (lambda memory: {"n": torch.ones(3)}, r"'n' was float32 \[\], and loss returned float32 \[3\]; it stays"),
        (lambda memory: {"n": memory["n"].double()}, r"'n' was float32 \[\], and loss returned float64 \[\]"),
    ],
)
def test_a_memory_keeps_its_form(new, said):
    objective = Own(lambda params: (params, {"n": torch.zeros(())}), lambda loss, memory: (loss, new(memory), {}))
    with pytest.raises(ValueError, match=said):
        one_step(objective)


SETTLED = "settle_(params, memory, skip) -> (memory, metrics)"


@pytest.mark.parametrize(
    ("settle_", "said"),
    [
        (lambda self, params, memory: (memory, {}), r"settle_ cannot be called as settle_\(params, memory, skip\)"),
        (lambda self, params, memory, skip: memory, "settle_ returned dict {}; it returns two, " + re.escape(SETTLED)),
        (lambda self, params, memory, skip: (memory, {}, skip), r"settle_ returned a tuple of 3; it returns two"),
        (lambda self, params, memory, skip: (memory, None), r"the metrics of settle_ are NoneType None"),
        (lambda self, params, memory, skip: ({"n": skip}, {}), "the memory that settle_ returned has a new 'n'"),
    ],
)
def test_what_settles_a_memory_returns_it_with_metrics(settle_, said):
    objective = type("Settling", (Own,), {"settle_": settle_})()
    with pytest.raises(ValueError, match=said):
        one_step(objective)


def test_a_memory_that_was_empty_stays_so():
    """Else a checkpoint would hold what no new state has a place for."""
    with pytest.raises(ValueError, match="the memory that loss returned has a new 'n'"):
        one_step(Own(found=lambda loss, memory: (loss, {"n": loss.detach()}, {})))


def test_metrics_may_carry_a_graph_which_ends_with_the_step():
    _, metrics = one_step(Own(found=lambda loss, memory: (loss, memory, {"a": 2 * loss})))
    assert not metrics["a"].requires_grad
    assert metrics["a"] == 2 * metrics["loss"]


def test_they_are_looked_at_in_the_first_step_alone(monkeypatch):
    seen = []
    monkeypatch.setattr(batch_gradient, "outcome_of", lambda found: seen.append(1) or found)
    step, state = make_step(SUPERVISED, Descent()), init_state(SUPERVISED, Descent(), key(0))
    for _ in range(3):
        state, _ = step(state, batch_of())
    assert len(seen) == 1


def test_a_good_one_is_taken():
    before = init_state(SUPERVISED, Descent(), key(0))
    after, _ = make_step(SUPERVISED, Descent())(before, batch_of())
    assert not torch.equal(tree.leaves(after.params)[0], tree.leaves(before.params)[0])
