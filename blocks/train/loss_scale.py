"""The dynamic loss scale, without which small gradients are zero in float16 (Micikevicius et al. 2018, section 3.2)."""

import math

import attrs
import torch
from torch import Tensor

from blocks.checks import count, is_above_0
from blocks.train.precision import compute_dtype
from blocks.tree import Tree


def is_power_of_two(_: object, field: attrs.Attribute, value: float) -> None:
    """attrs validator of a scale that rounds nothing."""
    if not is_above_0(value) or math.frexp(value)[0] != 0.5:
        raise ValueError(f"{field.name} {value!r} is no power of two, and would round; use one, such as 2.0**10")


@attrs.frozen
class LossScale:
    """State {"scale": float32 [], "good_steps": int64 []}: halved when a gradient overflows, doubled after so many
    steps without. Powers of two, so that scaling rounds nothing.
    """

    # initial, growth_interval: torch.amp.GradScaler's; ceiling: apex's
    initial: float = attrs.field(default=2.0**16, validator=is_power_of_two)
    growth_interval: int = attrs.field(default=2000, validator=count)  # steps
    floor: float = attrs.field(default=1.0, validator=is_power_of_two)
    ceiling: float = attrs.field(default=2.0**24, validator=is_power_of_two)

    def __attrs_post_init__(self) -> None:
        if not self.floor <= self.initial <= self.ceiling:
            raise ValueError(
                f"floor {self.floor}, initial {self.initial} and ceiling {self.ceiling} of the loss scale are not in "
                "this order; lower the one, or raise the other"
            )

    def init(self, device: torch.device | None = None) -> Tree:
        """The state before the first step."""
        scale = torch.full((), self.initial, device=device)
        return {"scale": scale, "good_steps": torch.zeros((), dtype=torch.int64, device=device)}

    def next(self, state: Tree, overflow: Tensor) -> Tree:
        """The state after a step whose gradient overflowed, or did not (bool [])."""
        scale, good = state["scale"], state["good_steps"] + 1
        grows = good >= self.growth_interval
        larger = torch.where(grows, scale * 2, scale).clamp(max=self.ceiling)
        smaller = (scale / 2).clamp(min=self.floor)
        good = good * ~(overflow | grows)
        return {"scale": torch.where(overflow, smaller, larger), "good_steps": good}

    def at_floor(self, state: Tree) -> Tensor:
        """Whether the scale can go no lower, so that an overflow is none of its doing: bool []."""
        return state["scale"] <= self.floor


def loss_scale_of(precision: str, given: LossScale | None) -> LossScale | None:
    """The loss scale of a step: float16 has one, the given or the default.

    Raises ValueError for an unknown precision, and for a scale without use.
    """
    if compute_dtype(precision) is torch.float16:
        return given or LossScale()
    if given is not None:
        raise ValueError(f'loss_scale is for precision="float16", and it is {precision!r}; leave it out')
    return None
