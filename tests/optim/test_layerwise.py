"""LARS and LAMB against their papers, leaf by leaf in float64, and against timm's."""

import math

import pytest
import timm.optim
import torch

from blocks import tree
from blocks.optim.lamb import lamb
from blocks.optim.lars import lars
from blocks.optim.schedule import linear
from tests.optim.table import DECAYED, params_of, run, torch_leaves, torch_run

SCHEDULE = linear(2e-2, 1e-3, 10)


def by_hand(update, steps=5):
    """(params, gradients of each step) -> params, by `update(name, w, g, memory, t)` leaf by leaf; t counts from 1."""
    params = tree.flatten(params_of(0, torch.float64))
    memories = {name: {} for name in params}
    for step in range(steps):
        grads = tree.flatten(params_of(100 + step, torch.float64))
        params = {n: w + update(n, w, grads[n], memories[n], step + 1) for n, w in params.items()}
    return params


def assert_equal(params, expected, tolerance=1e-12):
    params = tree.flatten(params)
    for name, value in expected.items():
        torch.testing.assert_close(params[name], value.detach(), atol=tolerance, rtol=tolerance, msg=name)


def lars_update(name, w, g, memory, t):
    """You, Gitman and Ginsburg 2017, algorithm 1, with the rate outside the momentum."""
    decay = 0.1 if name in DECAYED else 0.0
    trust = 0.02 * w.norm() / (g.norm() + decay * w.norm()) if name in DECAYED else 1.0
    memory["v"] = 0.9 * memory.get("v", 0.0) + trust * (g + decay * w)
    return -float(SCHEDULE(t - 1)) * memory["v"]


def test_lars_is_the_papers():
    params, _ = run(lars(SCHEDULE, 0.9, 0.1, trust=0.02, eps=0.0), params_of(0, torch.float64), 5)
    assert_equal(params, by_hand(lars_update))


@pytest.mark.parametrize("max_trust", [None, 1.0])
def test_lamb_is_the_papers(max_trust):
    def lamb_update(name, w, g, memory, t):
        """You et al. 2020, algorithm 2, phi the identity, or cut off at max_trust."""
        memory["m"] = 0.8 * memory.get("m", 0.0) + 0.2 * g
        memory["v"] = 0.95 * memory.get("v", 0.0) + 0.05 * g**2
        r = memory["m"] / (1 - 0.8**t) / ((memory["v"] / (1 - 0.95**t)).sqrt() + 1e-6)
        r = r + 0.1 * w if name in DECAYED else r
        trust = min(float(w.norm() / r.norm()), max_trust or math.inf) if name in DECAYED else 1.0
        return -float(SCHEDULE(t - 1)) * trust * r

    optimizer = lamb(SCHEDULE, (0.8, 0.95), weight_decay=0.1, max_trust=max_trust)
    params, _ = run(optimizer, params_of(0, torch.float64), 5)
    assert_equal(params, by_hand(lamb_update))


def groups(decayed, exempt):
    return [{"params": decayed, "weight_decay": 0.1}, {"params": exempt, "weight_decay": 0.0}]


@pytest.mark.parametrize("nesterov", [False, True])
def test_lars_is_timms(nesterov):
    params = params_of(0, torch.float64)
    leaves, *parts = torch_leaves(params)
    theirs = timm.optim.Lars(groups(*parts), momentum=0.9, nesterov=nesterov, trust_coeff=0.02)
    assert len(list(torch_run(theirs, leaves, SCHEDULE, 5))) == 5
    assert_equal(run(lars(SCHEDULE, 0.9, 0.1, nesterov=nesterov, trust=0.02), params, 5)[0], leaves)


@pytest.mark.parametrize("clip", [False, True])
def test_lamb_is_timms_without_its_clipping_of_the_gradient(clip):
    params = params_of(0, torch.float64)
    leaves, *parts = torch_leaves(params)
    theirs = timm.optim.Lamb(groups(*parts), betas=(0.8, 0.95), max_grad_norm=None, trust_clip=clip)
    assert len(list(torch_run(theirs, leaves, SCHEDULE, 5))) == 5
    optimizer = lamb(SCHEDULE, (0.8, 0.95), weight_decay=0.1, max_trust=1.0 if clip else None)
    assert_equal(run(optimizer, params, 5)[0], leaves)


@pytest.mark.parametrize(("factory", "decayed", "small"), [(lars, 0.95, 0.009999), (lamb, 0.9, 0.009)])
def test_the_ratio_is_of_any_lengths_and_1_where_one_is_zero(factory, decayed, small):
    """LAMB's step is never zero while there is decay: the decay's alone is made as long as the weights."""
    optimizer, zero, one = factory(0.1, weight_decay=0.5), torch.zeros(2, 3), torch.ones(2, 3)
    cases = (zero, one, -0.1), (0.1 * one, zero, 0.1 * decayed), (zero, zero, 0.0), (0.01 * one, 0.01 * one, small)
    for params, grads, expected in cases:
        new, state = optimizer.update({"w": params}, {"w": grads}, optimizer.init({"w": params}))
        torch.testing.assert_close(new["w"], torch.full((2, 3), expected))
        assert all(leaf.isfinite().all() for leaf in tree.leaves(state))


def test_impossible_hyperparameters_are_refused():
    with pytest.raises(ValueError, match=r"trust 0\.0 is not above 0"):
        lars(0.1, trust=0.0)
    with pytest.raises(ValueError, match=r"max_trust -1\.0 is not above 0"):
        lamb(0.1, max_trust=-1.0)
    with pytest.raises(ValueError, match=r"betas \(1\.0, 0\.9\)"):
        lamb(0.1, (1.0, 0.9))
