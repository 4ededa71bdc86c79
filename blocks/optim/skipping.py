"""Updates that may turn out to be skipped, without asking the device whether they are.

A skipped update is one without gradient, without rate and without forgetting: its gradients are zero, its rate
is 0, its averages keep all they have. Then nothing changes, bit for bit.
"""

import torch
from torch import Tensor

BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # integers as long as a float, by bytes


def unless(skip: Tensor | None, rate: Tensor) -> Tensor:
    """A finite rate, 0 where skip is true."""
    return rate if skip is None else rate * ~skip


def keeping(skip: Tensor | None, share: float) -> float | Tensor:
    """What an average keeps of itself: its share, or all where skip is true (float64 [])."""
    return share if skip is None else skip + share * (~skip).double()


def zero_where(skip: Tensor | None, grads: list[Tensor]) -> list[Tensor]:
    """The gradients, or new zeros where skip is true; as integers, because a NaN times 0 stays one."""
    if skip is None:
        return grads
    bits = [g.view(BITS[g.element_size()]) for g in grads]
    kept = torch._foreach_mul(bits, (~skip).to(bits[0].dtype))
    return [k.view(g.dtype) for k, g in zip(kept, grads, strict=True)]
