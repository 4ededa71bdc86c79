"""Three-augment: DeiT III's short policy."""

import attrs
import torch
from torch import Tensor

from blocks.data.augment.checks import at_least, interval
from blocks.data.augment.ops import Op
from blocks.data.augment.plan import Plan
from blocks.random import uniform

CHOICES = (Op.GRAYSCALE, Op.SOLARIZE, Op.BLUR)


@attrs.frozen
class ThreeAugment:
    """One of greyscale, solarize and Gaussian blur, equally often, always.

    Touvron et al. 2022, "DeiT III", section 3: beside a colour jitter of 0.3, which is a field of the transform.
    """

    threshold: int = attrs.field(default=128, validator=at_least(0))
    sigma: tuple[float, float] = attrs.field(default=(0.1, 2.0), validator=interval(0, 100))

    def draw(self, keys: Tensor) -> Plan:
        """keys [B, 2] -> a plan of [B, 1]."""
        choice, sigma = uniform(keys, (2,)).double().split(1, dim=1)  # [B, 1]
        ops = torch.tensor(CHOICES)[(choice * len(CHOICES)).long()]
        low, high = self.sigma
        args = torch.where(ops == Op.BLUR, low + (high - low) * sigma, self.threshold * (ops == Op.SOLARIZE))
        return Plan(ops, args.float())
