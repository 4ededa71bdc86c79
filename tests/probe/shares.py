"""What each of two processes finds for test_shares.py: one start, many results."""

from unittest import mock

import torch

from blocks import tree
from blocks.objectives.linear_probes import HEADS_ALONE, LinearProbes
from blocks.objectives.monitored import Monitored
from blocks.optim.sgd import sgd
from blocks.probe import knn as module
from blocks.probe.features import features, gathered
from blocks.probe.knn import knn
from blocks.probe.knn_monitor import KnnMonitor
from blocks.probe.probe_accuracy import ProbeAccuracy
from blocks.random import fold_in, key, normal
from blocks.train.distributed import Processes
from blocks.train.step import init_state, make_step
from tests.probe.small import CLASSES, Agreeing, Images, cloud, crops, part, trunk

# where the first process's share of train and of test samples ends
SHARES = {"even": (0.5, 0.5), "uneven": (0.8, 0.3), "apart": (0.0, 1.0), "all to one": (1.0, 1.0)}


def ends(world_size, count, share):
    return [0, count] if world_size == 1 else [0, round(share * count), count]


def data(processes, count, share, seed):
    return Images(count, processes.rank, ends(processes.world_size, count, share), seed=seed)


def params_of(objective_or_model):
    params = objective_or_model.init(key(0))
    params = params[0] if isinstance(params, tuple) else params
    leaves = tree.flatten(params)
    moved = {
        name: leaf.double() + 0.1 * normal(fold_in(key(1), i), tuple(leaf.shape), dtype=torch.float64)
        for i, (name, leaf) in enumerate(leaves.items())
    }
    return tree.like(params, moved)


def numbers(found):
    return {name: torch.tensor(float(value), dtype=torch.float64) for name, value in found.items()}


def stored(processes, share):
    model = trunk()
    found = gathered(features(model, params_of(model), data(processes, 11, share, 1), processes))
    return {"values": found.values, "labels": found.labels, "index": found.index}


def neighbours(processes, shares):
    """k-NN of made-up features, in blocks of 9."""
    cut = [ends(processes.world_size, count, share) for count, share in zip((60, 25), shares, strict=True)]
    mine = [slice(e[processes.rank], e[processes.rank + 1]) for e in cut]
    train, test = (part(cloud(n, s), m.start, m.stop) for n, s, m in zip((60, 25), (1, 2), mine, strict=True))
    with mock.patch.multiple(module, TRAIN_ROWS=9, TEST_ROWS=7):
        return numbers(knn(train, test, (1, 5, 20, 50)))


def monitored(processes, shares):
    model = trunk()
    train, val = (data(processes, n, share, seed) for n, share, seed in zip((24, 12), shares, (1, 2), strict=True))
    return numbers(KnnMonitor(model, train, val, processes, k=(3, 5))(params_of(model)))


def halves(batch, processes):
    size = len(batch["labels"]) // processes.world_size
    return {name: v[processes.rank * size : (processes.rank + 1) * size] for name, v in batch.items()}


def online(processes):
    """(probe, accuracies) after some batches on one trunk."""
    objective = Monitored(Agreeing(trunk()), CLASSES)
    params = params_of(objective)
    memory, log = objective.remember(params), {}
    for number in range(4):
        batch = halves(crops(seed=number, dtype=torch.float64), processes)
        memory, metrics = objective.settle_(params, objective.loss(params, memory, batch, None)[1])
        log[str(number)] = metrics["probe_top1"]
    return {"probe": memory["probe"], "log": log}


def offline(processes, share):
    """(params, metrics, accuracies) of two heads, on standardised features."""
    probes = LinearProbes(trunk(), CLASSES, heads=2)
    params = params_of(probes)
    found = features(probes.model, params, data(processes, 20, share, 3), processes)
    params = probes.standardised(params, found.values)
    optimizer = sgd(1.0, momentum=0.9, lr_scales={"heads.0.*": 0.1, "heads.1.*": 1.0})
    state = init_state(Doubled(probes), optimizer, key(0), frozen=HEADS_ALONE, params=params)
    step = make_step(probes, optimizer, frozen=HEADS_ALONE)
    for number in range(3):
        images = Images(8, seed=number)
        batch = {"images": images.images.double(), "labels": images.labels, "index": torch.arange(8)}
        state, metrics = step(state, halves(batch, processes))
    accuracy = ProbeAccuracy(probes, data(processes, 15, share, 4), processes)(state.params)
    return {"params": state.params, "metrics": metrics, "accuracy": numbers(accuracy)}


class Doubled:
    """Starts in float64."""

    def __init__(self, objective):
        self.objective, self.loss = objective, objective.loss

    def init(self, key):
        params, memory = self.objective.init(key)
        return tree.cast(params, torch.float64), memory


def cases(processes):
    """All results, by name."""
    results = {"online": online(processes)}
    for name, (train, val) in SHARES.items():
        results[f"features, {name}"] = stored(processes, train)
        results[f"k-NN, {name}"] = neighbours(processes, (train, val))
        results[f"monitor, {name}"] = monitored(processes, (train, val))
        results[f"probes, {name}"] = offline(processes, train)
    return {name: tree.flatten(result) for name, result in results.items()}


def one_of_two(rank):
    """The results of a process beside another."""
    return cases(Processes(rank, 2, rank))
