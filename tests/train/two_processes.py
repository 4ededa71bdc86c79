"""What each of two gloo processes computes for test_distributed.py: one start, many results."""

import os
from pathlib import Path

import torch

from blocks import tree
from blocks.objectives.supervised import Supervised
from blocks.optim.clip import ClipAdaptive
from blocks.optim.schedule import linear
from blocks.random import key, normal
from blocks.train.buckets import BucketedSum
from blocks.train.distributed import connect
from blocks.train.gradient import LeafCopies
from blocks.train.step import make_step
from blocks.trunks.convit import convit
from blocks.trunks.vit import vit
from tests.train.small_problem import Remembering, batch_of, net, setup, share

VIT = {"img_size": 8, "patch_size": 4, "num_classes": 5, "embed_dim": 16, "depth": 3, "num_heads": 2}
DROPS = {"proj_drop_rate": 0.1, "pos_drop_rate": 0.1, "drop_path_rate": 0.4}
ALL = {"accumulate": 2, "clip_norm": 0.5, "ema_decay": 0.9}
MODELS = {"net": net(), "vit": vit(**VIT, **DROPS), "convit": convit(**VIT, **DROPS, local_up_to_layer=2)}
CASES = {
    "net plain": {},
    "vit all": ALL,
    "convit plain": {},
    "convit all": ALL,
    "net clipped and scheduled": {"clip": ClipAdaptive(0.05), "ema_decay": linear(0.5, 0.9, 4)},
    "vit frozen": {**ALL, "frozen": ("*", "!head.*", "!norm.*")},
    "net bfloat16": {"precision": "bfloat16"},
    "net float16": {"precision": "float16", "accumulate": 2},
}


class Double(Supervised):
    """Float64, so that Adam does not blow up the rounding of gradients that are truly zero (a key's bias)."""

    def init(self, key):
        return tree.cast(self.model.init(key), torch.float64), {}


def images_of(seed):
    return {"images": normal(key(seed), (8, 3, 8, 8)), "labels": torch.arange(8) % 5, "index": torch.arange(8)}


def train(name, knobs, part, steps=3):
    """(state, metrics of each step) after steps on this process's part of each batch."""
    model, kind, dtype = MODELS[name.split()[0]], Double, torch.float64
    if "precision" in knobs:
        kind, dtype = Supervised, torch.float32
    first = {name: knobs[name] for name in ("precision", "frozen") if name in knobs}
    objective, optimizer, state = setup(objective=kind(model, 0.1), ema="ema_decay" in knobs, **first)
    step, log = make_step(objective, optimizer, **knobs), {}
    for number in range(steps):
        batch = part(batch_of(seed=number) if "net" in name else images_of(number))
        state, log[str(number)] = step(state, {**batch, "images": batch["images"].to(dtype)})
    return {"state": state, "log": log}


def cases(part):
    """All results of this process, by name; with part = identity, those of one process."""
    return {name: train(name, knobs, part) for name, knobs in CASES.items()}


def bare_index(part):
    """Without an index a process takes its samples for the rank-th share."""
    objective, optimizer, state = setup(objective=Supervised(net(), 0.1), ema=False)
    batch = part(batch_of())
    del batch["index"]
    return make_step(objective, optimizer)(state, batch)[0]


def broken_on(rank, processes, part):
    """(state before, state after) a batch that is broken on one process only."""
    objective, optimizer, state = setup(objective=Remembering(Supervised(net(), 0.1)), ema=False)
    batch = part(batch_of())
    if processes.rank == rank:
        batch["images"][0] = torch.nan
    return state, make_step(objective, optimizer)(state, batch)[0]


def overflowed_on(rank, processes, part):
    """(state before, state after) a float16 batch whose gradient, not its loss, overflows on one process only."""
    objective, optimizer, state = setup(objective=Supervised(net(), 0.1), ema=False, precision="float16")
    batch = part(batch_of())
    if processes.rank == rank:
        batch["images"][0] = 60000.0 * batch["images"][0].sign()
    step = make_step(objective, optimizer, precision="float16")
    after, metrics = step(state, batch)
    return state, {"state": after, "metrics": metrics}


def small_buckets(processes):
    """Sums of gradients that differ by process, in many buckets, with a leaf that only process 0 uses."""
    params = {str(i): torch.full((3,), float(i + 1)) for i in range(6)}

    def loss(params):
        used = [p for name, p in params.items() if name != "4" or processes.rank == 0]
        return sum(p.square().sum() for p in used) * (processes.rank + 1), None

    sums = BucketedSum(list(params.values()), first=12, rest=24)
    copies = LeafCopies(params)
    sums.begin(copies.copies)
    copies.accumulate(loss)
    return {str(i): view.clone() for i, view in enumerate(sums.finish()[0])}


def summed_norm(processes, *broken):
    """The norm of leaves filled with 1, 2, ... on process 0 and ten times that on process 1; some become NaN."""
    params = [torch.zeros(3, dtype=torch.float64) for _ in range(5)]
    sums = BucketedSum(params, first=24, rest=48)
    leaves = [torch.zeros(3, dtype=torch.float64, requires_grad=True) for _ in range(5)]
    sums.begin(leaves)
    for place, leaf in enumerate(leaves):
        value = float("nan") if place in broken else (place + 1) * 10**processes.rank
        leaf.grad = torch.full((3,), value, dtype=torch.float64)
    return sums.finish()[1]


def work(rank, world_size, port, out):
    """One process."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port))
    with connect("cpu") as processes:

        def part(batch):
            return share(batch, rank, world_size)

        results = cases(part) | {"bare index": bare_index(part)}
        results["before broken"], results["after broken"] = broken_on(1, processes, part)
        results["before overflow"], results["after overflow"] = overflowed_on(1, processes, part)
        results["small buckets"] = small_buckets(processes)
        results["norm"] = summed_norm(processes)
        results["broken norms"] = {str(place): summed_norm(processes, place) for place in range(5)}
        results["sum"] = processes.all_reduce_sum({"a": torch.tensor([rank, 1.0]), "b": torch.tensor(10.0 * rank)})
        processes.barrier()
    results["connected after"] = torch.tensor(torch.distributed.is_initialized())
    torch.save({name: tree.flatten(value) for name, value in results.items()}, Path(out) / f"{rank}.pt")
