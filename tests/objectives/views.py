"""Tiny models and batches of crops, for objectives without negatives, and slow references' few words."""

import torch

from blocks import key, tree
from blocks.layers.heads import ProjectionMlp
from blocks.objectives.barlow_twins import BarlowTwins
from blocks.objectives.byol import BYOL
from blocks.objectives.vicreg import VICReg
from blocks.optim.schedule import cosine
from blocks.random import normal
from blocks.trunks.convit import convit
from blocks.trunks.vit import vit

TINY = {"img_size": 8, "patch_size": 4, "embed_dim": 8, "num_heads": 2, "depth": 2, "drop_path_rate": 0.4}


def head(features=6, inputs=8):
    return ProjectionMlp(inputs, 10, features, norm="batch")


def model(features=6):
    return vit(**TINY, head=head(features))


def convit_model(features=6):
    return convit(**TINY, local_up_to_layer=1, head=head(features))


OBJECTIVES = {
    "byol": lambda: BYOL(model(), head(inputs=6), cosine(0.9, 1.0, 10)),
    "byol, convit": lambda: BYOL(convit_model(), head(inputs=6), 0.99),
    "barlow twins": lambda: BarlowTwins(model()),
    "barlow twins, wide": lambda: BarlowTwins(model(12), 0.1, 1.0),
    "vicreg": lambda: VICReg(model()),
    "vicreg, wide": lambda: VICReg(convit_model(12)),
}


def batch_of(size=8, small=0, seed=0, dtype=torch.float64):
    """Two crops of 8 x 8, `small` of 4 x 4, and places in the global batch."""
    batch = {"crops.0": normal(key(100 + seed), (size, 2, 3, 8, 8)).to(dtype)}
    if small:
        batch["crops.1"] = normal(key(200 + seed), (size, small, 3, 4, 4)).to(dtype)
    return {**batch, "labels": torch.arange(size) % 5, "index": torch.arange(size)}


def share(batch, rank, world_size):
    """A process's contiguous part of a global batch."""
    size = len(batch["index"]) // world_size
    return {name: value[rank * size : (rank + 1) * size] for name, value in batch.items()}


def start(objective, seed=0, dtype=torch.float64, times=3.0):
    """(params, larger than a start's, that gradients are too; memory)."""
    params = tree.cast(objective.fresh(key(seed)), dtype)
    params = tree.map(lambda p: times * p, params)
    return params, objective.remember(params)


def gradient(objective, params, memory, batch, a_key=None, scale=1.0):
    """(loss, memory with notes, metrics, {dotted name: gradient of scale * loss})."""
    leaves = tree.map(lambda p: p.detach().clone().requires_grad_(), params)
    flat = tree.flatten(leaves)
    loss, memory, metrics = objective.loss(leaves, memory, batch, a_key)
    grads = torch.autograd.grad(scale * loss, list(flat.values()), allow_unused=True, materialize_grads=True)
    return loss.detach(), memory, metrics, dict(zip(flat, grads, strict=True))


def same(a, b):
    """Bit for bit, every leaf."""
    a, b = tree.flatten(a), tree.flatten(b)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def assert_close(a, b, **tolerance):
    a, b = tree.flatten(a), tree.flatten(b)
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], msg=lambda text, name=name: f"{name}: {text}", **tolerance)


def features(objective, params):
    """Those of each view of the usual batch."""
    return [objective.model.features(params, view) for view in batch_of()["crops.0"].unbind(1)]
