"""Layer scale: a learned gain per channel on a residual branch."""

import attrs
import torch
from torch import Tensor

from blocks.block import Block, Params
from blocks.checks import count


@attrs.frozen
class LayerScale(Block):
    """x [..., dim] -> [..., dim], times gamma, which starts at `init_values` (CaiT, Touvron et al. 2021, eq. 4)."""

    dim: int = attrs.field(validator=count)
    init_values: float

    def init(self, key: Tensor) -> Params:
        """gamma [dim]."""
        return {"gamma": torch.full((self.dim,), self.init_values, device=key.device, dtype=torch.float32)}

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        return x * params["gamma"]
