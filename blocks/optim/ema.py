"""The exponential moving average of params."""

import torch
from torch import Tensor

from blocks.tree import Tree, leaves


def ema_update_(ema: Tree, params: Tree, decay: float | Tensor, *, skip: Tensor | None = None) -> None:
    """ema <- decay * ema + (1 - decay) * params, in place; where skip (bool []) is true nothing changes.

    The decay may be a 0-dim tensor on the params' device, as from a schedule.
    """
    old, new = leaves(ema), leaves(params)
    if skip is None and not isinstance(decay, Tensor):
        torch._foreach_lerp_(old, new, 1.0 - decay)
        return
    weight = torch.as_tensor(1.0 - decay, dtype=torch.float64) if skip is None else (~skip).double().mul_(1.0 - decay)
    weights = {dtype: weight.to(dtype) for dtype in {t.dtype for t in old}}
    torch._foreach_lerp_(old, new, [weights[t.dtype] for t in old])
