"""The exponential moving average of params."""

import torch
from torch import Tensor

from blocks.tree import Tree, leaves


def ema_update_(ema: Tree, params: Tree, decay: float, *, skip: Tensor | None = None) -> None:
    """ema <- decay * ema + (1 - decay) * params, in place; where skip (bool []) is true nothing changes."""
    old, new = leaves(ema), leaves(params)
    if skip is None:
        torch._foreach_lerp_(old, new, 1.0 - decay)
        return
    weight = torch.where(skip, 0.0, 1.0 - decay)
    weights = {dtype: weight.to(dtype) for dtype in {t.dtype for t in old}}
    torch._foreach_lerp_(old, new, [weights[t.dtype] for t in old])
