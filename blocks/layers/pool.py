"""Tokens to one feature vector."""

import attrs
from torch import Tensor

from blocks.block import Block, Params
from blocks.layers.norm import LayerNorm


@attrs.frozen
class TokenPool(Block):
    """tokens [B, N, D] -> the first, the class token, [B, D]."""

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        return x[:, 0].clone()  # a view would keep all tokens for the backward pass


@attrs.frozen
class MeanPool(Block):
    """tokens [B, P + N, D] -> mean over the N patches, then `fc_norm` if there is one: [B, D]."""

    num_prefix_tokens: int = 0
    fc_norm: LayerNorm | None = None

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        x = x[:, self.num_prefix_tokens :].mean(1)
        return x if self.fc_norm is None else self.fc_norm(params["fc_norm"], x)
