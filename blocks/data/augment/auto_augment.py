"""AutoAugment: the policies that were searched for ImageNet."""

import functools

import attrs
import torch
from torch import Tensor

from blocks.checks import one_of
from blocks.data.augment.checks import deviation
from blocks.data.augment.magnitudes import INCREASING, PLAIN, Table, magnitudes, make_plan
from blocks.data.augment.ops import Op
from blocks.data.augment.plan import Plan
from blocks.random import fold_in, uniform

Step = tuple[Op, float, int]  # operation, probability, magnitude
MAGNITUDE = 1  # its key

ORIGINAL: tuple[tuple[Step, Step], ...] = (  # Cubuk et al. 2019, "AutoAugment", table 9
    ((Op.POSTERIZE, 0.4, 8), (Op.ROTATE, 0.6, 9)),
    ((Op.SOLARIZE, 0.6, 5), (Op.AUTO_CONTRAST, 0.6, 5)),
    ((Op.EQUALIZE, 0.8, 8), (Op.EQUALIZE, 0.6, 3)),
    ((Op.POSTERIZE, 0.6, 7), (Op.POSTERIZE, 0.6, 6)),
    ((Op.EQUALIZE, 0.4, 7), (Op.SOLARIZE, 0.2, 4)),
    ((Op.EQUALIZE, 0.4, 4), (Op.ROTATE, 0.8, 8)),
    ((Op.SOLARIZE, 0.6, 3), (Op.EQUALIZE, 0.6, 7)),
    ((Op.POSTERIZE, 0.8, 5), (Op.EQUALIZE, 1.0, 2)),
    ((Op.ROTATE, 0.2, 3), (Op.SOLARIZE, 0.6, 8)),
    ((Op.EQUALIZE, 0.6, 8), (Op.POSTERIZE, 0.4, 6)),
    ((Op.ROTATE, 0.8, 8), (Op.COLOR, 0.4, 0)),
    ((Op.ROTATE, 0.4, 9), (Op.EQUALIZE, 0.6, 2)),
    ((Op.EQUALIZE, 0.0, 7), (Op.EQUALIZE, 0.8, 8)),
    ((Op.INVERT, 0.6, 4), (Op.EQUALIZE, 1.0, 8)),
    ((Op.COLOR, 0.6, 4), (Op.CONTRAST, 1.0, 8)),
    ((Op.ROTATE, 0.8, 8), (Op.COLOR, 1.0, 2)),
    ((Op.COLOR, 0.8, 8), (Op.SOLARIZE, 0.8, 7)),
    ((Op.SHARPNESS, 0.4, 7), (Op.INVERT, 0.6, 8)),
    ((Op.SHEAR_X, 0.6, 5), (Op.EQUALIZE, 1.0, 9)),
    ((Op.COLOR, 0.4, 0), (Op.EQUALIZE, 0.6, 3)),
    ((Op.EQUALIZE, 0.4, 7), (Op.SOLARIZE, 0.2, 4)),
    ((Op.SOLARIZE, 0.6, 5), (Op.AUTO_CONTRAST, 0.6, 5)),
    ((Op.INVERT, 0.6, 4), (Op.EQUALIZE, 1.0, 8)),
    ((Op.COLOR, 0.6, 4), (Op.CONTRAST, 1.0, 8)),
    ((Op.EQUALIZE, 0.8, 8), (Op.EQUALIZE, 0.6, 3)),
)
V0: tuple[tuple[Step, Step], ...] = (  # of the EfficientNet training code
    ((Op.EQUALIZE, 0.8, 1), (Op.SHEAR_Y, 0.8, 4)),
    ((Op.COLOR, 0.4, 9), (Op.EQUALIZE, 0.6, 3)),
    ((Op.COLOR, 0.4, 1), (Op.ROTATE, 0.6, 8)),
    ((Op.SOLARIZE, 0.8, 3), (Op.EQUALIZE, 0.4, 7)),
    ((Op.SOLARIZE, 0.4, 2), (Op.SOLARIZE, 0.6, 2)),
    ((Op.COLOR, 0.2, 0), (Op.EQUALIZE, 0.8, 8)),
    ((Op.EQUALIZE, 0.4, 8), (Op.SOLARIZE_ADD, 0.8, 3)),
    ((Op.SHEAR_X, 0.2, 9), (Op.ROTATE, 0.6, 8)),
    ((Op.COLOR, 0.6, 1), (Op.EQUALIZE, 1.0, 2)),
    ((Op.INVERT, 0.4, 9), (Op.ROTATE, 0.6, 0)),
    ((Op.EQUALIZE, 1.0, 9), (Op.SHEAR_Y, 0.6, 3)),
    ((Op.COLOR, 0.4, 7), (Op.EQUALIZE, 0.6, 0)),
    ((Op.POSTERIZE, 0.4, 6), (Op.AUTO_CONTRAST, 0.4, 7)),
    ((Op.SOLARIZE, 0.6, 8), (Op.COLOR, 0.6, 9)),
    ((Op.SOLARIZE, 0.2, 4), (Op.ROTATE, 0.8, 9)),
    ((Op.ROTATE, 1.0, 7), (Op.TRANSLATE_Y, 0.8, 9)),
    ((Op.SHEAR_X, 0.0, 0), (Op.SOLARIZE, 0.8, 4)),
    ((Op.SHEAR_Y, 0.8, 0), (Op.COLOR, 0.6, 4)),
    ((Op.COLOR, 1.0, 0), (Op.ROTATE, 0.6, 2)),
    ((Op.EQUALIZE, 0.8, 4), (Op.EQUALIZE, 0.0, 8)),
    ((Op.EQUALIZE, 1.0, 4), (Op.AUTO_CONTRAST, 0.6, 2)),
    ((Op.SHEAR_Y, 0.4, 7), (Op.SOLARIZE_ADD, 0.6, 7)),
    ((Op.POSTERIZE, 0.8, 2), (Op.SOLARIZE, 0.6, 10)),  # 0 bits: a black picture
    ((Op.SOLARIZE, 0.6, 8), (Op.EQUALIZE, 0.6, 1)),
    ((Op.COLOR, 0.8, 6), (Op.ROTATE, 0.4, 5)),
)
ORIGINAL_TABLE: Table = {  # the paper keeps 4 to 8 bits
    **PLAIN,
    Op.POSTERIZE: lambda level, sign: (PLAIN[Op.POSTERIZE](level, sign) + 4).clamp(max=8),
}
RESEARCH_TABLE: Table = {**PLAIN, Op.POSTERIZE: INCREASING[Op.POSTERIZE]}
POLICIES = {
    "original": (ORIGINAL, ORIGINAL_TABLE),
    "originalr": (ORIGINAL, RESEARCH_TABLE),
    "v0": (V0, PLAIN),
    "v0r": (V0, RESEARCH_TABLE),
}


@attrs.frozen
class AutoAugment:
    """One of 25 pairs of operations, each with its own probability and magnitude.

    `name`: "original" (Cubuk et al. 2019) or "v0"; with an "r" at the end fewer bits are kept at a higher magnitude.
    `mstd` is the deviation of the magnitudes, 0 in the paper.
    """

    name: str = attrs.field(default="original", validator=one_of(POLICIES))
    mstd: float = attrs.field(default=0.0, validator=deviation)

    def draw(self, keys: Tensor) -> Plan:
        """keys [B, 2] -> a plan of [B, 2]."""
        steps, table = POLICIES[self.name]
        which, applied, sign = uniform(keys, (5,)).double().split((1, 2, 2), dim=1)
        rows = (which[:, 0] * len(steps)).long()
        ops, prob, mean = (column[rows] for column in _columns(self.name))  # [B, 2] each
        magnitude = magnitudes(fold_in(keys, MAGNITUDE), 2, mean, self.mstd)
        return make_plan(table, ops.long(), applied < prob, magnitude, sign < 0.5)


@functools.cache
def _columns(name: str) -> tuple[Tensor, ...]:
    """Operations, probabilities and magnitudes of a policy: float64 [25, 2] each."""
    return torch.tensor(POLICIES[name][0], dtype=torch.float64).unbind(-1)
