"""Attention of one learned query to all tokens, as SigLIP pools."""

import attrs
from torch import Tensor

from blocks.block import Block, Params
from blocks.layers.attention import check_heads
from blocks.layers.linear import Linear
from blocks.layers.mlp import Mlp
from blocks.layers.norm import LayerNorm
from blocks.layers.token import ClassToken
from blocks.ops.attention import attention, by_head


@attrs.frozen
class LatentAttention(Block):
    """tokens [B, N, D] -> [B, D]: y = attention of the latent query, then y + mlp(norm(y)).

    Multi-head attention pooling of "Scaling vision transformers" (Zhai et al. 2022), with params of timm's
    AttentionPoolLatent. Raises ValueError for heads that do not share the width.
    """

    embed_dim: int
    num_heads: int
    hidden_features: int
    eps: float = 1e-6
    act_layer: str = "gelu"
    latent: ClassToken = attrs.field(init=False)
    q: Linear = attrs.field(init=False)
    kv: Linear = attrs.field(init=False)
    proj: Linear = attrs.field(init=False)
    norm: LayerNorm = attrs.field(init=False)
    mlp: Mlp = attrs.field(init=False)

    @latent.default
    def _latent(self) -> ClassToken:
        check_heads(self.embed_dim, self.num_heads)
        return ClassToken(self.embed_dim, std=self.embed_dim**-0.5)

    @q.default
    def _q(self) -> Linear:
        return Linear(self.embed_dim, self.embed_dim)

    @kv.default
    def _kv(self) -> Linear:
        return Linear(self.embed_dim, 2 * self.embed_dim)

    @proj.default
    def _proj(self) -> Linear:
        return Linear(self.embed_dim, self.embed_dim)

    @norm.default
    def _norm(self) -> LayerNorm:
        return LayerNorm(self.embed_dim, self.eps)

    @mlp.default
    def _mlp(self) -> Mlp:
        return Mlp(self.embed_dim, self.hidden_features, act_layer=self.act_layer)

    @property
    def is_random(self) -> bool:
        return False

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        q = self.q(params["q"], params["latent"]).expand(x.shape[0], -1, -1)
        (q,) = by_head(q.unflatten(-1, (1, self.num_heads, -1)))  # [B, h, 1, d]
        k, v = by_head(self.kv(params["kv"], x).unflatten(-1, (2, self.num_heads, -1)))
        y = self.proj(params["proj"], attention(q, k, v).transpose(1, 2).flatten(2))
        return (y + self.mlp(params["mlp"], self.norm(params["norm"], y)))[:, 0]
