"""SwAV and DINO with a tiny model in float64, and a step of theirs written out."""

import attrs
import torch
from torch import Tensor

from blocks import convit, key, tree, vit
from blocks.collective import average, world
from blocks.layers.published_heads import dino_head, swav_head
from blocks.layers.weight_norm import Prototypes
from blocks.objectives.dino import DINO
from blocks.objectives.swav import SwAV
from blocks.optim.schedule import cosine, linear
from blocks.random import fold_in, normal

TINY = {"img_size": 8, "patch_size": 4, "num_classes": 0, "embed_dim": 8, "num_heads": 2, "depth": 2}


def model(head, make=vit, **knobs):
    local = {"local_up_to_layer": 1} if make is convit else {}
    return attrs.evolve(make(**TINY, **local, **knobs), head=head)


def swav(make=vit, drop=0.0, **knobs):
    heads = knobs.pop("prototypes", (Prototypes(6, 10), Prototypes(6, 7)))
    return SwAV(model(swav_head(8, 12, 6), make, drop_path_rate=drop), heads, **knobs)


def dino(make=vit, drop=0.0, **knobs):
    head = dino_head(8, 11, hidden_features=12, bottleneck_features=6)
    return DINO(model(head, make, drop_path_rate=drop), **knobs)


def batch_of(size=8, crops=(2, 3), seed=0, dtype=torch.float64):
    """Crops of two kinds, [size, V, 3, 8, 8]; what a view shows of an image resembles what the others show."""
    first = fold_in(key(11), seed)
    images = normal(fold_in(first, 0), (size, 1, 3, 8, 8), dtype)
    found = {
        f"crops.{i}": images + 0.5 * normal(fold_in(first, i + 1), (size, n, 3, 8, 8), dtype)
        for i, n in enumerate(crops)
    }
    return {**found, "labels": torch.zeros(size, dtype=torch.int64), "index": torch.arange(size)}


def start(objective, scale=3.0, seed=0):
    """(params, memory) in float64, larger than fresh ones so that views differ."""
    params = tree.map(lambda p: scale * p.double(), objective.fresh(key(seed)))
    if "prototypes" in params:
        params["prototypes"] = tree.map(lambda p: p / p.norm(dim=1, keepdim=True), params["prototypes"])
    return params, objective.remember(params)


def value_and_grads(loss, params):
    """(loss, the gradients as a tree like params): of a function of params -> (loss, anything)."""
    leaves = tree.map(lambda p: p.detach().requires_grad_(), params)
    value, rest = loss(leaves)
    grads = torch.autograd.grad(value, tree.leaves(leaves), allow_unused=True, materialize_grads=True)
    return value.detach(), tree.rebuild(params, iter(grads)), rest


def descend(objective, params, memory, batch, step_key: Tensor | None = None, rate=0.1, skip=None):
    """One step of gradient descent, as on all processes: (what was found, params, memory), params and memory in place.

    Found are the loss, gradients and metrics: means over processes.
    """

    def loss(params):
        found = objective.outcome(params, memory, batch, step_key)
        return found.loss / world()[1], found

    _, grads, outcome = value_and_grads(loss, params)
    with torch.no_grad():
        if world()[1] > 1:
            for grad in tree.leaves(grads):
                torch.distributed.all_reduce(grad)
        tree.map(lambda p, g: p.sub_(rate * g), params, grads)
        memory, settled = objective.settle_(params, outcome.memory, skip)
        found = {"loss": average(outcome.loss.detach()), "grads": grads, "settled": settled}
        metrics = {name: average(value) for name, value in outcome.metrics.items()}
        return {**found, "metrics": metrics}, params, memory


CASES = {
    "swav": lambda: swav(),
    "swav, drop path": lambda: swav(convit, 0.5, crops_for_assign=(1, 3)),
    "swav, queue": lambda: swav(queue_length=13, crops_for_assign=(2, 0)),
    "swav, short queue, late": lambda: swav(queue_length=5, queue_start=2, use_double=True, iterations=5),
    "swav, hard": lambda: swav(hard_steps=2, prototypes=(Prototypes(6, 9),)),
    "dino": lambda: dino(drop=0.5),
    "dino, schedules": lambda: dino(
        convit, momentum=cosine(0.5, 1.0, 4), teacher_temp=linear(0.04, 0.07, 3), centre_momentum=0.5
    ),
}


def run(name, part, steps=3):
    """All that some steps of a case find on this process's part of each batch, and leave."""
    objective = CASES[name]()
    params, memory = start(objective)
    log = {}
    for number in range(steps):
        step_key = fold_in(key(5), number) if objective.draws else None
        log[str(number)], params, memory = descend(objective, params, memory, part(batch_of(seed=number)), step_key)
    return tree.clone({"log": log, "params": params, "memory": memory})
