"""Dropout whose mask is a function of the samples' keys: a kernel keeps none, as its backward pass makes it again."""

from typing import Any

import torch
from torch import Tensor

from blocks.ops.choose import DTYPES, Impl, choose
from blocks.ops.define import define
from blocks.random import bernoulli, fold_in


def keyed_dropout(x: Tensor, keys: Tensor, rate: float, place: int | None = None, *, impl: Impl = "auto") -> Tensor:
    """x [B, ...] with entries zeroed at `rate` and the others divided by 1 - rate; keys int32 [B, 2], one a sample.

    `place` is folded into the keys first.
    """
    if choose(impl, x, lambda: unsupported(x, keys)) == "triton":
        return KeyedDropout.apply(x, keys, rate, place)
    keys = keys if place is None else fold_in(keys, place)
    return torch.where(bernoulli(keys, 1 - rate, x.shape[1:]), x / (1 - rate), 0)


def unsupported(x: Tensor, keys: Tensor) -> str | None:
    """What the kernel cannot do for such tensors."""
    if x.dtype not in DTYPES:
        return f"x is {x.dtype}, and the kernel knows {DTYPES}"
    if keys.dtype != torch.int32 or keys.shape != (len(x), 2) or keys.device != x.device:
        return f"keys are {keys.dtype} {list(keys.shape)} on {keys.device}, not int32 [{len(x)}, 2] on {x.device}"
    if x.numel() > len(x) << 30:
        return "a sample has more than 2**30 numbers"
    return "x is empty" if x.numel() == 0 else None


class KeyedDropout(torch.autograd.Function):
    """(x [B, ...], keys [B, 2], rate, place) -> like x. Linear in x: its gradients are dropped by the same keys.

    Without forward mode: torch.compile refuses functions that have it.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, keys: Tensor, rate: float, place: int | None) -> Tensor:
        return KERNEL(x, keys, rate, place)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float, int | None], output: Tensor) -> None:
        _, keys, *ctx.knobs = inputs
        ctx.save_for_backward(keys)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return KeyedDropout.apply(grad, *ctx.saved_tensors, *ctx.knobs), None, None, None


def _dropout(x: Tensor, keys: Tensor, rate: float, place: int | None) -> Tensor:
    from blocks.ops.kernels import dropout as kernels  # Triton, only where it is asked for

    return kernels.dropout(x, keys, rate, place)


def _map(info: Any, dims: tuple, x: Tensor, keys: Tensor, rate: float, place: int | None) -> tuple[Tensor, int]:
    """A mapped axis is more samples."""
    x, keys = (
        t.expand(info.batch_size, *t.shape) if dim is None else t.movedim(dim, 0)
        for t, dim in zip((x, keys), dims, strict=False)
    )
    return KERNEL(x.flatten(0, 1), keys.flatten(0, 1), rate, place).view(x.shape), 0


KERNEL: Any = define(
    "keyed_dropout(Tensor x, Tensor keys, float rate, int? place) -> Tensor",
    _dropout,
    lambda x, keys, rate, place: x.new_empty(x.shape),
    _map,
)
