"""RandAugment: a few operations at random, all of one strength."""

import attrs
import torch
from torch import Tensor

from blocks.data.augment.checks import at_least, deviation, share
from blocks.data.augment.magnitudes import INCREASING, PLAIN, TOP, magnitudes, make_plan
from blocks.data.augment.ops import Op
from blocks.data.augment.plan import Plan
from blocks.random import fold_in, uniform

CHOICES = tuple(range(Op.AUTO_CONTRAST, Op.TRANSLATE_Y + 1))  # the 15 of the published recipes
MAGNITUDE = 1  # its key


@attrs.frozen
class RandAugment:
    """`num_ops` of 15 operations with replacement, each done with probability `prob`.

    Cubuk et al. 2020, "RandAugment". The defaults are DeiT's and ConViT's, `rand-m9-mstd0.5-inc1` in timm's words:
    magnitudes are normal with deviation `mstd` (infinite: uniform from 0 to `magnitude`) and cut off at 0 and
    `max_magnitude`; `increasing` makes every operation stronger with the magnitude.
    """

    magnitude: float = attrs.field(default=9, validator=at_least(0))
    num_ops: int = attrs.field(default=2, validator=at_least(1))
    mstd: float = attrs.field(default=0.5, validator=deviation)
    increasing: bool = True
    prob: float = attrs.field(default=0.5, validator=share)
    max_magnitude: float = attrs.field(default=TOP, validator=at_least(0))

    def __attrs_post_init__(self) -> None:
        if self.magnitude > self.max_magnitude:
            raise ValueError(
                f"magnitude {self.magnitude} is above max_magnitude {self.max_magnitude}, where it would be cut off; "
                f"use magnitude {self.max_magnitude}, or max_magnitude {self.magnitude} (mmax in a string)"
            )

    def draw(self, keys: Tensor) -> Plan:
        """keys [B, 2] -> a plan of [B, num_ops]."""
        choice, applied, sign = uniform(keys, (self.num_ops, 3)).double().unbind(-1)  # [B, K]
        ops = torch.tensor(CHOICES)[(choice * len(CHOICES)).long()]
        magnitude = magnitudes(fold_in(keys, MAGNITUDE), self.num_ops, self.magnitude, self.mstd, self.max_magnitude)
        return make_plan(INCREASING if self.increasing else PLAIN, ops, applied < self.prob, magnitude, sign < 0.5)
