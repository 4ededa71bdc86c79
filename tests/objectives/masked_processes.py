"""What each of two gloo processes computes for test_masked_processes.py: one start, many results."""

import os
from pathlib import Path

import torch

from blocks import key, tree
from blocks.train.distributed import connect
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


def work(rank, world_size, port, out):
    """One process."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port))
    with connect("cpu"):
        found = {name: once(name, lambda batch: share(batch, rank, world_size)) for name in OBJECTIVES}
    flat = {name: [tree.flatten(part) for part in parts] for name, parts in found.items()}
    torch.save(flat, Path(out) / f"{rank}.pt")
