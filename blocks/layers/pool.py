"""Tokens to one feature vector."""

import attrs
from torch import Tensor

from blocks.block import Block, Params
from blocks.layers.latent_attention import LatentAttention
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


@attrs.frozen
class AttentionPool(Block):
    """tokens [B, P + N, D] -> what a learned query gets of the N patches: [B, D]."""

    attn_pool: LatentAttention
    num_prefix_tokens: int = 0

    @property
    def is_random(self) -> bool:
        return self.attn_pool.is_random

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        return self.attn_pool(params["attn_pool"], x[:, self.num_prefix_tokens :])
