"""What each of two gloo processes computes for test_contrastive_processes.py: one start, many results."""

import torch

from blocks import key, tree
from blocks.optim.schedule import linear
from blocks.optim.sgd import sgd
from blocks.train.step import init_state, make_step
from tests.objectives.contrastive import OBJECTIVES
from tests.objectives.views import batch_of, gradient, share, start


def once(name, part):
    """(loss, gradient of this process's part of the mean loss, the settled memory) of one batch."""
    objective = OBJECTIVES[name]()
    params, memory = start(objective)
    world_size = 8 // len(part(batch_of())["index"])
    loss, memory, _, grads = gradient(objective, params, memory, part(batch_of(small=1)), key(1), scale=1 / world_size)
    memory, _ = objective.settle_(start(objective, 4)[0], memory, torch.tensor(False))
    return {"loss": loss / world_size, "grads": grads}, {"memory": memory}


def trained(name, part):
    """State and metrics of three steps; the second batch is broken in the last sample."""
    objective, optimizer = OBJECTIVES[name](), sgd(linear(1e-2, 2e-2, 4))
    state, log = init_state(objective, optimizer, key(3)), {}
    step = make_step(objective, optimizer, clip_norm=0.5, donate=True)
    for number in range(3):
        batch = batch_of(seed=number, dtype=torch.float32)
        if number == 1:
            batch["crops.0"][-1] = torch.nan
        state, log[str(number)] = step(state, part(batch))
    return {"state": state, "log": log}


def accumulated(part):
    """The queue after a step in two micro-batches: the keys lie in the order of the whole batch."""
    objective, optimizer = OBJECTIVES["moco"](), sgd(linear(1e-2, 2e-2, 4))
    state = init_state(objective, optimizer, key(3))
    step = make_step(objective, optimizer, accumulate=2)
    return step(state, part(batch_of(dtype=torch.float32)))[0].memory["queue"]


def cases(part):
    """(what is summed over processes, what is the same on all): each flat, by name."""
    mine, every = {}, {"accumulated": accumulated(part)}
    for name in OBJECTIVES:
        mine[name], every[f"{name} settled"] = once(name, part)
        every[f"{name} trained"] = trained(name, part)
    return [{name: tree.flatten(value) for name, value in results.items()} for results in (mine, every)]


def work(rank):
    """One process."""
    return cases(lambda batch: share(batch, rank, 2))
