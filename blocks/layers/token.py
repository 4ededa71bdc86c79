"""The class token."""

import attrs
import torch
from torch import Tensor

from blocks.block import Block, Params
from blocks.random import normal


@attrs.frozen
class ClassToken(Block):
    """tokens [B, N, D] -> [B, 1 + N, D], a learned token first. Its params are the tensor [1, 1, D] itself."""

    embed_dim: int
    std: float = 0.02

    def init(self, key: Tensor) -> Params:
        """[1, 1, D]."""
        return normal(key, (1, 1, self.embed_dim)).mul_(self.std)

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        return torch.cat((params.expand(x.shape[0], -1, -1), x), dim=1)
