"""All optimizers, by one row each, and params that every one of them can take."""

import torch

from blocks import tree
from blocks.optim.adamw import adamw
from blocks.optim.lamb import lamb
from blocks.optim.lars import lars
from blocks.optim.lion import lion
from blocks.optim.muon import muon
from blocks.optim.sgd import sgd

ROWS = {  # name: (factory, its own knobs)
    "adamw": (adamw, {"betas": (0.8, 0.95)}),
    "sgd": (sgd, {"nesterov": True}),
    "sgd_plain": (sgd, {"momentum": 0.0}),
    "sgd_dampened": (sgd, {"dampening": 0.5}),
    "lamb": (lamb, {"betas": (0.8, 0.95)}),
    "lamb_clipped": (lamb, {"max_trust": 1.0}),
    "lars": (lars, {"trust": 0.5}),
    "lars_nesterov": (lars, {"trust": 0.5, "nesterov": True}),
    "lion": (lion, {}),
    "muon": (muon, {}),
    "muon_original": (muon, {"adjust": "original", "nesterov": False}),
}


def make(row, schedule=1e-2, weight_decay=0.1, **knobs):
    factory, own = ROWS[row]
    return factory(schedule, weight_decay=weight_decay, **own, **knobs)


def params_of(seed, dtype=torch.float32):
    """Two hidden matrices of one shape, a tall one, a token, vectors, a convolution and a head."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=g, dtype=dtype)

    return {
        "cls_token": draw(1, 1, 4),
        "patch_embed": {"proj": {"weight": draw(4, 3, 2, 2), "bias": draw(4)}},
        "blocks": {
            "0": {"fc": {"weight": draw(3, 4), "bias": draw(3)}},
            "1": {"fc": {"weight": draw(3, 4)}, "up": {"weight": draw(6, 4)}},
        },
        "norm": {"weight": draw(4)},
        "head": {"weight": draw(2, 4), "bias": draw(2)},
    }


DECAYED = {
    "patch_embed.proj.weight",
    "blocks.0.fc.weight",
    "blocks.1.fc.weight",
    "blocks.1.up.weight",
    "head.weight",
}


def run(optimizer, params, steps=3, **knobs):
    """(params, state) after some updates by gradients of their own."""
    dtype = next(iter(tree.flatten(params).values())).dtype
    state = optimizer.init(params)
    for step in range(steps):
        params, state = optimizer.update(params, params_of(100 + step, dtype), state, **knobs)
    return params, state


def torch_leaves(params):
    """Leaves for a torch optimizer, by name, and the params as groups of those that decay and those that do not."""
    leaves = {name: t.clone().requires_grad_() for name, t in tree.flatten(params).items()}
    return leaves, [t for n, t in leaves.items() if n in DECAYED], [t for n, t in leaves.items() if n not in DECAYED]


def torch_run(theirs, leaves, schedule, steps=10):
    """Yields the number of each update after the torch optimizer has made it, by `run`'s gradients."""
    dtype = next(iter(leaves.values())).dtype
    for step in range(steps):
        for group in theirs.param_groups:
            group["lr"] = float(schedule(step))
        for name, grad in tree.flatten(params_of(100 + step, dtype)).items():
            leaves[name].grad = grad
        theirs.step()
        yield step


def same(a, b):
    """Bit for bit, every leaf."""
    a, b = tree.flatten(a), tree.flatten(b)
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def assert_close(a, b, **tolerance):
    a, b = tree.flatten(a), tree.flatten(b)
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], msg=lambda text, name=name: f"{name}: {text}", **tolerance)
