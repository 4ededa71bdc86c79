"""The affine map, the brick of everything else."""

from typing import Any

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from blocks.block import Block, Params
from blocks.checks import count
from blocks.random import normal


def side_by_side(*maps: Params) -> Params:
    """Of several linear maps of one input, the params of the one whose outputs are theirs in a row."""
    return {name: torch.cat([params[name] for params in maps]) for name in maps[0]}


@attrs.frozen
class Linear(Block):
    """x [..., in_features] -> [..., out_features]. Weights start normal with `std` (0: all zero), the bias at 0."""

    in_features: int = attrs.field(validator=count)
    out_features: int = attrs.field(validator=count)
    bias: bool = True
    std: float = 0.02  # ViT's: timm truncates at 2 in absolute terms, a hundred deviations away

    def init(self, key: Tensor) -> Params:
        """weight [out, in] and, with `bias`, bias [out]."""
        kind: Any = {"device": key.device, "dtype": torch.float32}
        shape = (self.out_features, self.in_features)
        weight = normal(key, shape).mul_(self.std) if self.std else torch.zeros(shape, **kind)
        return {"weight": weight, "bias": torch.zeros(shape[0], **kind)} if self.bias else {"weight": weight}

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        return F.linear(x, params["weight"], params.get("bias"))
