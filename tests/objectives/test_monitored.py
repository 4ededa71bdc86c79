"""A probe that learns beside an objective, and touches nothing of it."""

import pytest
import torch
import torch.nn.functional as F

from blocks import tree
from blocks.objectives.monitored import Monitored, monitored
from blocks.optim.adamw import adamw
from blocks.random import key
from blocks.train.step import init_state, make_step
from tests.probe.small import CLASSES, Agreeing, crops, trunk


def pair(**knobs):
    inner = Agreeing(trunk(proj_drop_rate=0.2))
    return inner, Monitored(inner, CLASSES, **knobs)


def same(a, b):
    a, b = tree.flatten(a), tree.flatten(b)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def steps(objective, count=3, **knobs):
    """(state, metrics of each step) after steps on batches of their own."""
    optimizer, log = adamw(1e-2), []
    state, step = init_state(objective, optimizer, key(0)), make_step(objective, optimizer, **knobs)
    for number in range(count):
        state, metrics = step(state, crops(seed=number))
        log.append(metrics)
    return state, log


@pytest.mark.parametrize("knobs", [{}, {"accumulate": 2}, {"precision": "bfloat16"}])
def test_params_and_the_objective_s_memory_and_metrics_are_those_of_a_run_without_it(knobs):
    inner, monitored = pair()
    alone, expected = steps(inner, **knobs)
    state, log = steps(monitored, **knobs)
    assert same(state.params, alone.params)
    assert same(state.optimizer, alone.optimizer)
    assert same({n: m for n, m in state.memory.items() if n != "probe"}, alone.memory)
    assert [m.keys() - n.keys() for m, n in zip(log, expected, strict=True)] == [{"probe_top1"}] * 3
    assert all(torch.equal(m[n], expected[i][n]) for i, m in enumerate(log) for n in expected[i])


def test_micro_batches_teach_it_what_the_batch_does():
    """Without anything drawn, and before params can differ by rounding."""
    objective = Monitored(Agreeing(trunk()), CLASSES)
    whole, parts = (steps(objective, 1, accumulate=a)[0].memory["probe"] for a in (1, 4))
    for name, leaf in tree.flatten(whole).items():
        torch.testing.assert_close(tree.flatten(parts)[name], leaf)


def reference(x, labels, weight, bias, velocity, lr, momentum):
    """torch's batch norm without affine map, autograd and SGD: (top1, new weight, new bias)."""
    leaves = [weight.clone().requires_grad_(), bias.clone().requires_grad_()]
    x = F.batch_norm(x, None, None, training=True, eps=1e-6) / x.shape[1] ** 0.5
    scores = F.linear(x, *leaves)
    grads = torch.autograd.grad(F.cross_entropy(scores, labels), leaves)
    for v, grad in zip(velocity, grads, strict=True):
        v.mul_(momentum).add_(grad)
    top1 = (scores.argmax(1) == labels).double().mean()
    return top1, *(leaf.detach() - lr * v for leaf, v in zip(leaves, velocity, strict=True))


def test_it_is_softmax_regression_by_sgd_on_standardised_features():
    _, objective = pair(lr=0.7, momentum=0.8)
    params = tree.cast(objective.fresh(key(0)), torch.float64)
    memory = objective.remember(params)
    weight, bias = (memory["probe"][name].clone() for name in ("weight", "bias"))
    velocity = [torch.zeros_like(weight), torch.zeros_like(bias)]
    for number in range(4):
        batch = crops(seed=number, dtype=torch.float64)
        found = objective.outcome(params, memory, batch, key(number))
        memory, metrics = objective.settle_(params, found.memory)
        top1, weight, bias = reference(found.features, batch["labels"], weight, bias, velocity, 0.7, 0.8)
        assert metrics["probe_top1"] == top1
        torch.testing.assert_close(memory["probe"]["weight"], weight, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(memory["probe"]["bias"], bias, atol=1e-10, rtol=1e-10)


def test_its_accuracy_is_measured_before_it_learns_and_rises():
    _, objective = pair()
    params, memory = objective.init(key(0))
    batch, scores = crops(24), []
    for _ in range(60):
        memory, metrics = objective.settle_(params, objective.loss(params, memory, batch, None)[1])
        scores.append(metrics["probe_top1"].item())
    assert scores[0] == (batch["labels"] == 0).float().mean().item()  # zero weights say class 0
    assert scores[-1] > 0.7


def test_a_skipped_step_leaves_it_even_where_features_are_not_finite():
    _, objective = pair()
    params, memory = objective.init(key(0))
    memory, _ = objective.settle_(params, objective.loss(params, memory, crops(), None)[1])
    before = tree.clone(memory)
    batch = crops()
    batch["crops.0"][0] = torch.nan
    after, _ = objective.settle_(params, objective.loss(params, memory, batch, None)[1], torch.tensor(True))
    assert same(after, before)
    after, _ = objective.settle_(params, objective.loss(params, memory, crops(), None)[1], torch.tensor(False))
    assert not same(after["probe"], before["probe"])


def test_it_speaks_for_its_objective():
    inner, objective = pair()
    params, memory = objective.init(key(0))
    assert objective.model is inner.model
    assert objective.draws
    assert objective.alarms == {"spread": 0.1}
    assert objective.evaluated(memory)["teacher"] is memory["centre"]
    assert same(params, inner.init(key(0))[0])


def test_what_cannot_be_is_refused_at_construction():
    class Bare:
        is_random = False

    with pytest.raises(ValueError, match="Bare does not say how wide its features are; give embed_dim"):
        Monitored(Agreeing(Bare()), CLASSES)
    assert Monitored(Agreeing(Bare()), CLASSES, embed_dim=3).embed_dim == 3
    for knobs in ({"num_classes": 1}, {"lr": 0.0}, {"momentum": 1.0}):
        with pytest.raises(ValueError, match="an online probe wants"):
            Monitored(Agreeing(trunk()), **{"num_classes": CLASSES} | knobs)


def test_without_classes_to_tell_apart_there_is_nothing_to_monitor():
    objective = Agreeing(trunk())
    assert monitored(objective, 0) is objective
    assert monitored(objective, 1) is objective
    assert isinstance(monitored(objective, 2), Monitored)
