"""Colour jitter: brightness, contrast, saturation and hue by random factors, in random order."""

import attrs
import torch
from torch import Tensor

from blocks.data.augment.checks import interval
from blocks.data.augment.ops import Op
from blocks.data.augment.plan import Plan
from blocks.random import uniform

Range = tuple[float, float]


def _around_one(value: float | Range) -> Range:
    return (max(0.0, 1.0 - value), 1.0 + value) if isinstance(value, int | float) else value


def _around_zero(value: float | Range) -> Range:
    return (-value, value) if isinstance(value, int | float) else value


@attrs.frozen
class ColorJitter:
    """Uniform factors around 1 (brightness, contrast, saturation) and shifts around 0 (hue), as in torchvision.

    A number s means 1 - s (at least 0) to 1 + s, for the hue -s to s; a pair is the interval itself. What is left at
    0 is not done. Raises ValueError for an interval below 0, or a hue beyond half the circle.
    """

    brightness: Range = attrs.field(default=(1.0, 1.0), converter=_around_one, validator=interval(0, 1e3))
    contrast: Range = attrs.field(default=(1.0, 1.0), converter=_around_one, validator=interval(0, 1e3))
    saturation: Range = attrs.field(default=(1.0, 1.0), converter=_around_one, validator=interval(0, 1e3))
    hue: Range = attrs.field(default=(0.0, 0.0), converter=_around_zero, validator=interval(-0.5, 0.5))

    def draw(self, keys: Tensor) -> Plan:
        """keys [B, 2] -> a plan of [B, number of factors that vary]."""
        ops, low, high = self._active()
        factor, order = uniform(keys, (2, 4)).double()[..., : len(ops)].unbind(1)  # [B, K]
        order = order.argsort(dim=1, stable=True)
        args = low + (high - low) * factor
        return Plan(ops.expand_as(order).gather(1, order), args.gather(1, order).float())

    def _active(self) -> tuple[Tensor, Tensor, Tensor]:
        """Operations and ends of their intervals: int64, float64, float64 [K]."""
        ranges = {Op.BRIGHTNESS: self.brightness, Op.CONTRAST: self.contrast, Op.COLOR: self.saturation}
        active = [(op, *ends) for op, ends in ranges.items() if ends != (1, 1)]
        active += [(Op.HUE, *self.hue)] if self.hue != (0, 0) else []
        ops, low, high = torch.tensor(active, dtype=torch.float64).reshape(-1, 3).unbind(1)
        return ops.long(), low, high


def as_jitter(value: float | tuple[float, ...] | ColorJitter | None) -> ColorJitter | None:
    """One number is for brightness, contrast and saturation alike; a fourth of a tuple is the hue's."""
    if value is None or isinstance(value, ColorJitter):
        return value
    values = value if isinstance(value, tuple | list) else (value,) * 3
    if len(values) not in (3, 4):
        raise ValueError(
            f"color_jitter {value} is not one number, nor 3, nor 4 (brightness, contrast, saturation, hue)"
        )
    return ColorJitter(*values) if any(values) else None
