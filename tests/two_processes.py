"""The same function in each of two gloo processes that know of each other."""

import multiprocessing
from pathlib import Path

import torch
import torch.distributed as dist

LIMIT_S = 120


def in_two(function, folder):
    """[function(0), function(1)], computed at the same time by two processes of one group."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "blocks.layers.heads"])
    processes = [context.Process(target=_work, args=(rank, function, str(folder)), daemon=True) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(LIMIT_S)
        assert process.exitcode == 0, f"a process ended with {process.exitcode} (None: not within {LIMIT_S} s)"
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]


def _work(rank, function, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save(function(rank), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def share(whole, rank, dim=0):
    """A process's half of a tensor."""
    return whole.chunk(2, dim)[rank]
