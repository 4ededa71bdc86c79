"""What each of two gloo processes computes for test_without_negatives_processes.py: one start, many results."""

import attrs
import torch

from blocks import key, tree
from blocks.objectives.self_supervised import SelfSupervised
from blocks.optim.schedule import linear
from blocks.optim.sgd import sgd
from blocks.train.step import init_state, make_step
from tests.objectives.views import OBJECTIVES, batch_of, gradient, share, start


@attrs.frozen(eq=False)
class Double(SelfSupervised):
    """An objective in float64, with a metric of its settling that differs from process to process."""

    objective: SelfSupervised

    def fresh(self, key):
        return tree.cast(self.objective.fresh(key), torch.float64)

    def remember(self, params):
        return self.objective.remember(params)

    def loss(self, params, memory, batch, key):
        loss, memory, metrics = self.objective.loss(params, memory, batch, key)
        memory["notes"]["seen"] = batch["index"]
        return loss, memory, metrics

    def settle_(self, params, memory, skip=None):
        seen = memory["notes"].pop("seen")
        memory, metrics = self.objective.settle_(params, memory, skip)
        return memory, {**metrics, "seen": seen.double().mean()}


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
    objective = OBJECTIVES[name]()
    objective = Double(objective.model, objective)
    optimizer = sgd(linear(1e-2, 2e-2, 4))
    state, log = init_state(objective, optimizer, key(3)), {}
    step = make_step(objective, optimizer, clip_norm=0.5, donate=True)
    for number in range(3):
        batch = batch_of(seed=number)
        if number == 1:
            batch["crops.0"][-1] = torch.nan
        state, log[str(number)] = step(state, part(batch))
    return {"state": state, "log": log}


def cases(part):
    """(what is summed over processes, what is the same on all), by name."""
    mine, every = {}, {}
    for name in OBJECTIVES:
        mine[name], every[f"{name} settled"] = once(name, part)
        every[f"{name} trained"] = trained(name, part)
    return mine, every


def work(rank):
    """One process."""
    found = cases(lambda batch: share(batch, rank, 2))
    return [{name: tree.flatten(value) for name, value in part.items()} for part in found]
