"""The colour distortion of self-supervised views: jitter, greyscale, blur and solarize, each by its own chance."""

import attrs
import torch
from torch import Tensor

from blocks.data.augment.checks import at_least, interval, share
from blocks.data.augment.color_jitter import ColorJitter, as_jitter
from blocks.data.augment.ops import Op
from blocks.data.augment.plan import Plan
from blocks.random import fold_in, uniform

JITTER = 1  # its key


@attrs.frozen
class Distortion:
    """Chen et al. 2020, "SimCLR", appendix A; with solarize Grill et al. 2020, "BYOL", appendix B, in their order.

    `jitter` (0.4, 0.4, 0.2, 0.1) of brightness, contrast, saturation and hue is done in random order with probability
    `jitter_prob`; then `grayscale`, `blur` and `solarize` are the probabilities of theirs. `sigma` is the interval of
    the blur's standard deviation, uniform, in pixels of the crop; values from `threshold` on are inverted.
    """

    jitter: ColorJitter | None = attrs.field(default=ColorJitter(0.8, 0.8, 0.8, 0.2), converter=as_jitter)
    jitter_prob: float = attrs.field(default=0.8, validator=share, kw_only=True)
    grayscale: float = attrs.field(default=0.2, validator=share, kw_only=True)
    blur: float = attrs.field(default=0.5, validator=share, kw_only=True)
    sigma: tuple[float, float] = attrs.field(default=(0.1, 2.0), validator=interval(0, 100), kw_only=True)
    solarize: float = attrs.field(default=0.0, validator=share, kw_only=True)
    threshold: int = attrs.field(default=128, validator=at_least(0), kw_only=True)

    def draw(self, keys: Tensor) -> Plan:
        """keys [B, 2] -> a plan of [B, the jitter's operations, if there is any, + 3]."""
        chance, (low, high) = uniform(keys, (5,)).double(), self.sigma
        done = chance[:, :3] < torch.tensor((self.grayscale, self.blur, self.solarize), dtype=torch.float64)
        ops = torch.where(done, torch.tensor((Op.GRAYSCALE, Op.BLUR, Op.SOLARIZE)), Op.NOTHING)
        args = torch.zeros_like(chance[:, :3])
        args[:, 1] = low + (high - low) * chance[:, 3]
        args[:, 2] = self.threshold
        rest = Plan(ops, (args * done).float())
        if self.jitter is None:
            return rest
        jitter, done = self.jitter.draw(fold_in(keys, JITTER)), chance[:, 4:] < self.jitter_prob
        return Plan(jitter.ops * done, jitter.args * done).then(rest)
