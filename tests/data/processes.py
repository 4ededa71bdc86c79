"""What the processes that `test_processes` starts do; each comes from a server that has torch loaded already."""

import multiprocessing
import os
import signal
from itertools import islice
from pathlib import Path

import torch
import torch.distributed as dist

from blocks.data.loading.eval_loader import EvalLoader
from blocks.data.loading.train_loader import TrainLoader
from blocks.data.sources import mix_sources
from blocks.data.transforms import EvalTransform, TrainTransform
from tests.waiting import exit_codes

LIMIT_S = 60
STEPS, RESUMED, BATCH = 8, 3, 6


def start(target, *args):
    """Run target(*args) in a process of its own, which may have data workers."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["blocks.data", "torch.distributed"])
    process = context.Process(target=_begin, args=(target, *args))
    process.start()
    return process


def _begin(target, *args):
    torch.set_num_threads(1)
    target(*args)


def wait(*processes):
    """Their exit codes; one that does not end is an error."""
    return exit_codes(processes, LIMIT_S)


def train_loader(indices, **where):
    mixed = mix_sources(zip(indices, (2, 1), strict=True))
    options = {"batch_size": BATCH, "transform": TrainTransform(8), "num_classes": 3, "seed": 3, "repeats": 2}
    return TrainLoader(mixed, shuffle_window=5, **options, **where)


def steps(loader, first, last):
    """The batches of these steps, name by name: [S, b, ...]."""
    with loader:
        batches = list(islice(loader.batches(first), last - first))
    return {name: torch.stack([batch[name] for batch in batches]) for name in batches[0]}


def one_of_two(rank, indices, folder):
    """The first steps of one of two processes with two workers, and its share of an evaluation."""
    multiprocessing.set_start_method("fork", force=True)  # else each worker loads torch anew
    where = {"rank": rank, "world_size": 2, "num_workers": 2}
    with EvalLoader(indices[0], batch_size=2, transform=EvalTransform(8), num_classes=3, **where) as val:
        seen = torch.cat([batch["index"] for batch in val])
    torch.save({"steps": steps(train_loader(indices, **where), 0, RESUMED), "seen": seen}, f"{folder}/{rank}.pt")


def killed_beside_another(rank, indices, folder):
    """Both add up their labels step by step; kill -9 takes the second at its third step, not its data worker.

    That comes from a server of its own, which outlives the killed process: torch's watch does not end it.
    """
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    with train_loader(indices, rank=rank, world_size=2, num_workers=1) as train:
        for step, batch in enumerate(train.batches()):
            if rank == 1 and step == 2:
                (worker,) = multiprocessing.active_children()
                Path(folder, "worker").write_text(str(worker.pid))
                os.kill(os.getpid(), signal.SIGKILL)
            dist.all_reduce(batch["labels"])
