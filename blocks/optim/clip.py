"""Gradient norm and clipping by it."""

import torch
from torch import Tensor

from blocks.tree import Tree, leaves, rebuild

SMALL = 1 << 20  # numbers: below it, on a CPU, one copy costs less than a call for each leaf


def global_norm(grads: list[Tensor]) -> Tensor:
    """The 2-norm of all gradients taken as one vector: float []."""
    small = sum([g.numel() for g in grads]) < SMALL
    if small and {(g.is_cpu, g.dtype) for g in grads} == {(True, grads[0].dtype)}:
        return torch.linalg.vector_norm(torch._utils._flatten_dense_tensors(grads))
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))


def clip_by_norm(grads: Tree, max_norm: float) -> tuple[Tree, Tensor]:
    """(gradients of norm at most max_norm, the norm before): as torch.nn.utils.clip_grad_norm_, but pure."""
    flat = leaves(grads)
    norm = global_norm(flat)
    return rebuild(grads, iter(scale_to_norm(flat, norm, max_norm))), norm


def scale_to_norm(grads: list[Tensor], norm: Tensor, max_norm: float) -> list[Tensor]:
    """New gradients, multiplied by min(1, max_norm / (norm + 1e-6)); 1e-6 is torch.nn.utils.clip_grad_norm_'s."""
    return list(torch._foreach_mul(grads, (max_norm / (norm + 1e-6)).clamp_(max=1.0)))
