"""Kernels as operators of torch, so that autograd, torch.compile and torch.func take them for one step.

`torch.library.custom_op` with `register_autograd` fails under `torch.func.grad`: an op is defined here without a
gradient, and called from an `autograd.Function` that has one.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from blocks.ops.on_device import on_its_device

LIBRARY = torch.library.Library("blocks", "FRAGMENT")  # lives as long as the process: its end unregisters all


def define(
    schema: str, compute: Callable[..., Any], fake: Callable[..., Any], vmap: Callable[..., Any] | None = None
) -> Any:
    """The operator `torch.ops.blocks.<name>` of a schema "name(Tensor x, float t) -> Tensor".

    `compute` runs on every device, with the GPU of its first tensor as the current one; `fake` gives empty tensors of
    the results' shapes, types and strides; `vmap`, for ops that are claimed to have one, is
    `torch.library.register_vmap`'s.
    """
    name = schema.split("(", 1)[0]
    LIBRARY.define(schema)
    LIBRARY.impl(name, on_its_device(compute), "CompositeExplicitAutograd")
    torch.library.register_fake(f"blocks::{name}", fake, lib=LIBRARY)
    if vmap is not None:
        torch.library.register_vmap(f"blocks::{name}", vmap, lib=LIBRARY)
    return getattr(torch.ops.blocks, name).default


def traced(tensor: Tensor) -> bool:
    """Whether a compiler, or the trace of a whole step, follows what is computed with such a tensor."""
    return torch.compiler.is_compiling() or isinstance(tensor, FakeTensor)


def one_by_one(op: Callable[..., Any], info: Any, dims: tuple, *inputs: Any) -> tuple[tuple, tuple]:
    """An op of several results over a mapped axis as a call for each: right, and as slow as it says."""
    calls = [
        op(*(x if dim is None else x.select(dim, i) for x, dim in zip(inputs, dims, strict=True)))
        for i in range(info.batch_size)
    ]
    found = tuple(torch.stack(x) for x in zip(*calls, strict=True))
    return found, (0,) * len(found)
