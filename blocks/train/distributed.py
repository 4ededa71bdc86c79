"""The processes of a run: torchrun's, or one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import attrs
import torch
import torch.distributed as dist
from torch import Tensor

from blocks.train.heap import keep_heap


@attrs.frozen
class Processes:
    """This process's place among all: rank of world_size, local_rank on its machine, and the device it computes on."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    device: torch.device = attrs.field(factory=lambda: torch.device("cpu"), converter=torch.device)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and talks."""
        return self.rank == 0

    def say(self, text: object, file: TextIO | None = None) -> None:
        """Print it, once for all processes; to the standard output unless a file is given."""
        if self.is_main:
            print(text, file=file)

    def gathered(self, value: Any) -> list[Any]:
        """Every process's value, in their order, on all of them."""
        found = [value] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(found, value)
        return found

    def home(self, wish: str) -> str:
        """Where pictures are augmented: as wished; "auto" is the device if that is a GPU, else the workers."""
        return wish if wish != "auto" else "device" if self.device.type == "cuda" else "workers"

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.world_size > 1:
            dist.barrier()

    def all_reduce_sum(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Sums over all processes, name by name, in one exchange; the tensors may have any shapes but one type."""
        if self.world_size == 1 or not values:
            return dict(values)
        flat = torch.cat([value.reshape(-1) for value in values.values()])
        dist.all_reduce(flat)
        parts = flat.split([value.numel() for value in values.values()])
        return {name: part.view(value.shape) for (name, value), part in zip(values.items(), parts, strict=True)}


@contextmanager
def connect(device: str | None = None, *, data_workers: int = 0) -> Iterator[Processes]:
    """The processes that torchrun started, connected until the block ends; without torchrun, this one alone.

    device: "cpu" or "cuda"; by default CUDA where there is a GPU. CUDA tensors travel by NCCL, CPU tensors by gloo.
    On a CPU memory that is freed stays with the process (`keep_heap`), and its `data_workers` get cores of their own,
    unless OMP_NUM_THREADS says otherwise: threads that spin while they wait for a busy core made small models up to
    ten times slower.
    Raises ValueError where a machine has fewer GPUs than processes, and for workers below 0.
    """
    if data_workers < 0:
        raise ValueError(f"{data_workers} data workers are none; use 0 to load without any, or more")
    rank, world_size, local_rank = (
        _environment(name, n) for name, n in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    processes = Processes(rank, world_size, local_rank, _device(device, local_rank))
    if processes.device.type == "cpu":
        keep_heap()
    if processes.device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        cores = len(os.sched_getaffinity(0)) // _environment("LOCAL_WORLD_SIZE", world_size)
        torch.set_num_threads(max(1, cores - data_workers))
    if world_size == 1:
        yield processes
        return
    on_gpu = processes.device.type == "cuda"
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    try:
        yield processes
    finally:
        dist.destroy_process_group()


def _environment(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    if not value.isdecimal():
        raise ValueError(
            f"the environment variable {name} is {value!r}, not a number; start with torchrun, or unset it"
        )
    return int(value)


def _device(kind: str | None, local_rank: int) -> torch.device:
    kind = kind or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind != "cuda":
        return torch.device(kind)
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise ValueError(
            f"process {local_rank} of this machine has no GPU of its own, there are {count}; "
            f"use torchrun --nproc-per-node {max(count, 1)}, or device cpu"
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device
