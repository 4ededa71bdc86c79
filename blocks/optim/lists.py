"""Arithmetic on lists of leaves, a few kernels for all of them; the factors stay on the device."""

from collections.abc import Sequence

import torch
from torch import Tensor

Leaves = list[Tensor] | tuple[Tensor, ...]


def scale_(tensors: Leaves, factor: float | Tensor) -> None:
    """tensors <- factor * tensors."""
    torch._foreach_mul_(tensors, _fitting(factor, tensors))


def scaled(tensors: Leaves, factor: float | Tensor) -> list[Tensor]:
    """factor * tensors, new."""
    return list(torch._foreach_mul(tensors, _fitting(factor, tensors)))


def add_scaled_(tensors: Leaves, moves: Leaves, factor: float | Tensor) -> None:
    """tensors <- tensors + factor * moves."""
    torch._foreach_add_(tensors, scaled(moves, factor))


def decay_(params: Leaves, lr: Tensor, weight_decay: float | Tensor) -> None:
    """Decoupled decay: params <- (1 - lr * weight_decay) * params. The rate is 0 where an update is skipped."""
    if isinstance(weight_decay, Tensor) or weight_decay:
        scale_(params, 1.0 - lr.double() * weight_decay)


def _fitting(factor: float | Tensor, tensors: Sequence[Tensor]) -> float | Tensor:
    """The factor as float32 [] for such tensors: only then is it one kernel for all."""
    return factor.float() if isinstance(factor, Tensor) and tensors[0].dtype == torch.float32 else factor
