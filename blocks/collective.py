"""What all processes know together: gathers, sums and maxima with the right gradient; alone, nothing is done.

Every process must call these in the same order, with the same shapes. The processes are torch.distributed's.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> tuple[int, int]:
    """(this process's rank, the number of processes)."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def gather(x: Tensor, dim: int = 0) -> Tensor:
    """All processes' x, process by process along dim: [.., b, ..] -> [.., W b, ..].

    The gradient of a process's part is the sum of what all processes say about it.
    """
    return x if world()[1] == 1 else _Gather.apply(x, dim)


def total(x: Tensor) -> Tensor:
    """The sum of x over processes; so is the gradient."""
    return x if world()[1] == 1 else _Total.apply(x)


def average(x: Tensor) -> Tensor:
    """The mean of x over processes; so is the gradient."""
    return total(x) / world()[1]


@torch.no_grad()
def maximum(x: Tensor) -> Tensor:
    """The largest x of all processes, element by element; without gradient."""
    if world()[1] == 1:
        return x.detach()
    largest = x.detach().clone()
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, dim: int) -> Tensor:
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world()[1])]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts, dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.dim, ctx.size = inputs[1], inputs[0].shape[inputs[1]]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        summed = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed.narrow(ctx.dim, world()[0] * ctx.size, ctx.size), None


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        summed = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        summed = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed
