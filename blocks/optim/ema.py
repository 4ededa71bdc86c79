"""The exponential moving average of params."""

from torch import Tensor

from blocks.ops.moving_average import moving_average_
from blocks.tree import Tree, leaves


def ema_update_(ema: Tree, params: Tree, decay: float | Tensor, *, skip: Tensor | None = None) -> None:
    """ema <- decay * ema + (1 - decay) * params, in place; where skip (bool []) is true nothing changes.

    The decay may be a 0-dim tensor on the params' device, as from a schedule.
    """
    moving_average_(leaves(ema), leaves(params), decay, skip)
