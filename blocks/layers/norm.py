"""Layer normalisation."""

import attrs
import torch
from torch import Tensor

from blocks.block import Block, Params
from blocks.checks import above_0, count


@attrs.frozen
class LayerNorm(Block):
    """x [..., dim] -> [..., dim], each row to mean 0 and variance 1, then scaled and shifted (Ba et al. 2016)."""

    dim: int = attrs.field(validator=count)
    eps: float = attrs.field(default=1e-6, validator=above_0)  # ViT, DeiT and ConViT; PyTorch's own default is 1e-5

    def init(self, key: Tensor) -> Params:
        """weight [dim] of ones and bias [dim] of zeros."""
        ones = torch.ones(self.dim, device=key.device, dtype=torch.float32)
        return {"weight": ones, "bias": torch.zeros_like(ones)}

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        return torch.layer_norm(x, (self.dim,), params["weight"], params["bias"], self.eps)
