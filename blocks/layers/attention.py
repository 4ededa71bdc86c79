"""Multi-head self-attention."""

from numbers import Integral

import attrs
from torch import Tensor

from blocks.block import Block, Params
from blocks.layers.drop import dropout, is_rate
from blocks.layers.linear import Linear
from blocks.ops.attention import attention, attention_weights, by_head


def check_heads(embed_dim: int, num_heads: int) -> None:
    """Raises ValueError unless the heads share the width evenly."""
    if not isinstance(num_heads, Integral) or num_heads < 1:
        raise ValueError(f"num_heads {num_heads!r} is not a number of heads; use 1 or more")
    if not isinstance(embed_dim, Integral):
        raise ValueError(f"embed_dim {embed_dim!r} is not a width; use a whole number")
    if embed_dim % num_heads or embed_dim < 1:
        below = embed_dim // num_heads * num_heads
        near = f"{below} and {below + num_heads} are" if below > 0 else f"{num_heads} is"
        raise ValueError(f"embed_dim {embed_dim} is not a multiple of num_heads {num_heads}; {near}")


def check_tokens(x: Tensor, embed_dim: int) -> None:
    """Raises ValueError for what are no tokens; looks at the shape alone."""
    if x.ndim != 3 or x.shape[2] != embed_dim:
        raise ValueError(
            f"tokens {list(x.shape)} are not [B, N, {embed_dim}]; make them so: any other axis joins B or N"
        )


@attrs.frozen
class Attention(Block):
    """tokens [B, N, D] -> [B, N, D] (Vaswani et al. 2017, section 3.2).

    `grid`, `keep` and `turns` say where the tokens are, which is what GPSA and `RotaryAttention` want; they are not
    used. Raises ValueError for tokens of another shape.
    """

    embed_dim: int
    num_heads: int
    qkv_bias: bool = True
    qk_scale: float | None = None  # D/h to the power -1/2
    attn_drop: float = attrs.field(default=0.0, validator=is_rate)
    proj_drop: float = attrs.field(default=0.0, validator=is_rate)
    qkv: Linear = attrs.field(init=False)
    proj: Linear = attrs.field(init=False)

    @qkv.default
    def _qkv(self) -> Linear:
        check_heads(self.embed_dim, self.num_heads)
        return Linear(self.embed_dim, 3 * self.embed_dim, self.qkv_bias)

    @proj.default
    def _proj(self) -> Linear:
        return Linear(self.embed_dim, self.embed_dim)

    @property
    def is_random(self) -> bool:
        return self.attn_drop > 0 or self.proj_drop > 0

    def __call__(
        self,
        params: Params,
        x: Tensor,
        *,
        grid: tuple[int, int] | None = None,
        keep: Tensor | None = None,
        turns: Tensor | None = None,
        key: Tensor | None = None,
    ) -> Tensor:
        q, k, v = self._project(params, x, grid, keep, turns)
        y = attention(q, k, v, scale=self.qk_scale, drop=self.attn_drop, key=key)
        y = self.proj(params["proj"], y.transpose(1, 2).reshape(-1, self.embed_dim)).view(x.shape)
        return dropout(y, self.proj_drop, key)

    def weights(self, params: Params, x: Tensor, *, grid: tuple[int, int] | None = None) -> Tensor:
        """Who attends to whom: tokens [B, N, D] -> [B, h, N, N], rows sum to 1."""
        q, k, _ = self._project(params, x, grid)
        return attention_weights(q, k, self.qk_scale)

    def _project(
        self,
        params: Params,
        x: Tensor,
        grid: tuple[int, int] | None,
        keep: Tensor | None = None,
        turns: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """q, k and v, [B, h, N, d] each."""
        check_tokens(x, self.embed_dim)
        qkv = self.qkv(params["qkv"], x.flatten(0, 1)).view(*x.shape[:2], 3, self.num_heads, -1)
        return by_head(qkv)
