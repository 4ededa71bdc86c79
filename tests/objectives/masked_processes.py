"""What each of two gloo processes computes for test_masked_processes.py: one start, many results."""

import torch

from blocks import key, tree
from tests.objectives.masked import OBJECTIVES
from tests.objectives.views import batch_of, gradient, share, start


def once(name, part):
    """(loss and gradient of this process's part of the mean loss, the settled memory) of one batch."""
    objective = OBJECTIVES[name]()
    params, memory = start(objective)
    world_size = 8 // len(part(batch_of())["index"])
    batch = part(batch_of(small=2))
    loss, memory, _, grads = gradient(objective, params, memory, batch, key(1), scale=1 / world_size)
    memory, _ = objective.settle_(start(objective, 4)[0], memory, torch.tensor(False))
    return {"loss": loss / world_size, "grads": grads}, memory


def work(rank):
    """One process."""
    found = {name: once(name, lambda batch: share(batch, rank, 2)) for name in OBJECTIVES}
    return {name: [tree.flatten(part) for part in parts] for name, parts in found.items()}
