"""Dropout whose mask is a function of the samples' keys: it need not be kept, as the backward pass makes it again."""

from typing import Any

import torch
from torch import Tensor

from blocks.ops.choose import Impl, choose
from blocks.ops.define import define
from blocks.random import bernoulli

DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def keyed_dropout(x: Tensor, keys: Tensor, rate: float, *, impl: Impl = "auto") -> Tensor:
    """x [B, ...] with entries zeroed at `rate` and the others divided by 1 - rate; keys int32 [B, 2], one a sample."""
    if choose(impl, x, lambda: unsupported(x, keys)) == "triton":
        return KeyedDropout.apply(x, keys, rate)
    return torch.where(bernoulli(keys, 1 - rate, x.shape[1:]), x / (1 - rate), 0)


def unsupported(x: Tensor, keys: Tensor) -> str | None:
    """What the kernel cannot do for such tensors."""
    if x.dtype not in DTYPES:
        return f"x is {x.dtype}, and the kernel knows {DTYPES}"
    if keys.dtype != torch.int32 or keys.shape != (len(x), 2) or keys.device != x.device:
        return f"keys are {keys.dtype} {list(keys.shape)} on {keys.device}, not int32 [{len(x)}, 2] on {x.device}"
    if x.numel() > len(x) << 31:
        return "a sample has more than 2**31 numbers"
    return "x is empty" if x.numel() == 0 else None


class KeyedDropout(torch.autograd.Function):
    """(x [B, ...], keys [B, 2], rate) -> like x. Linear in x: the gradient is dropped by the same keys."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, keys: Tensor, rate: float) -> Tensor:
        return KERNEL(x, keys, rate)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
        _, keys, ctx.rate = inputs
        ctx.save_for_backward(keys)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return KeyedDropout.apply(grad, *ctx.saved_tensors, ctx.rate), None, None


def _dropout(x: Tensor, keys: Tensor, rate: float) -> Tensor:
    from blocks.ops.kernels import dropout as kernels  # Triton, only where it is asked for

    return kernels.dropout(x, keys, rate)


def _map(info: Any, dims: tuple, x: Tensor, keys: Tensor, rate: float) -> tuple[Tensor, int]:
    """A mapped axis is more samples."""
    many = [
        t.expand(info.batch_size, *t.shape) if dim is None else t.movedim(dim, 0)
        for t, dim in zip((x, keys), dims, strict=False)
    ]
    out = KERNEL(many[0].flatten(0, 1), many[1].flatten(0, 1), rate)
    return out.view(many[0].shape), 0


KERNEL: Any = define(
    "keyed_dropout(Tensor x, Tensor keys, float rate) -> Tensor",
    _dropout,
    lambda x, keys, rate: x.new_empty(x.shape),
    _map,
)
