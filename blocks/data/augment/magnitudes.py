"""From a magnitude, 0 to 10, to the argument of each operation.

Cubuk et al. 2019, "AutoAugment", table 6, and the variants that published recipes train with: the plain form, where
some operations grow milder with the magnitude, and the increasing one ("inc1"), where all grow stronger. There and
in the ops, a level is a magnitude's share of 10.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from blocks.data.augment.ops import Op
from blocks.data.augment.plan import Plan
from blocks.random import normal, uniform

TOP = 10  # the magnitude of level 1
Table = Mapping[Op, Callable[[Tensor, Tensor], Tensor]]  # (level, sign) -> argument


def _signed(most: float):
    return lambda level, sign: level * most * sign


def _whole(most: int, cap: int):
    return lambda level, sign: (level * most).floor().clamp(max=cap)


def _factor(level: Tensor, sign: Tensor) -> Tensor:
    """0.1 to 1.9."""
    return level * 1.8 + 0.1


def _increasing_factor(level: Tensor, sign: Tensor) -> Tensor:
    """Away from 1, to 0.1 or 1.9."""
    return (level * 0.9 * sign + 1.0).clamp(min=0.1)


FACTORS = (Op.COLOR, Op.CONTRAST, Op.BRIGHTNESS, Op.SHARPNESS)
PLAIN: Table = {
    Op.ROTATE: _signed(30.0),
    Op.POSTERIZE: _whole(4, cap=8),
    Op.SOLARIZE: _whole(256, cap=256),
    Op.SOLARIZE_ADD: _whole(110, cap=128),
    Op.SHEAR_X: _signed(0.3),
    Op.SHEAR_Y: _signed(0.3),
    Op.TRANSLATE_X: _signed(0.45),
    Op.TRANSLATE_Y: _signed(0.45),
    **dict.fromkeys(FACTORS, _factor),
}
INCREASING: Table = {
    **PLAIN,
    Op.POSTERIZE: lambda level, sign: 4 - _whole(4, cap=4)(level, sign),
    Op.SOLARIZE: lambda level, sign: 256 - _whole(256, cap=256)(level, sign),
    **dict.fromkeys(FACTORS, _increasing_factor),
}


def magnitudes(keys: Tensor, count: int, mean: float | Tensor, std: float, most: float = TOP) -> Tensor:
    """Normal around the mean and cut off at 0 and `most`; uniform up to the mean for an infinite std.

    keys [B, 2], mean a number or [B, count] -> float64 [B, count].
    """
    if math.isinf(std):
        drawn = uniform(keys, (count,), torch.float64) * mean
    else:
        drawn = normal(keys, (count,), torch.float64) * std + mean
    return drawn.clamp(0, most)


def make_plan(table: Table, ops: Tensor, applied: Tensor, magnitude: Tensor, negative: Tensor) -> Plan:
    """Ops where they are applied, with their arguments: int64, bool, float64, bool [B, K]."""
    ops = torch.where(applied, ops, Op.NOTHING)
    level, sign = magnitude / TOP, 1.0 - 2.0 * negative.double()
    args = torch.zeros_like(level)
    for op, argument in table.items():
        args = torch.where(ops == op, argument(level, sign), args)
    return Plan(ops, args.float())
