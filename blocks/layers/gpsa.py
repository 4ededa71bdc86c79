"""Gated positional self-attention, the layer that starts as a convolution."""

import math

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from blocks.block import Block, Params
from blocks.checks import above_0
from blocks.layers.attention import check_heads, check_tokens
from blocks.layers.drop import dropout, is_rate
from blocks.layers.linear import Linear, side_by_side
from blocks.ops.attention import attention_weights, by_head
from blocks.ops.gpsa import gpsa_dense, gpsa_packed, mixed_weights, position_attention
from blocks.ops.gpsa_among import gpsa_among, position_among

Grid = tuple[int, int]


@attrs.frozen
class GPSA(Block):
    """tokens [B, P + H W, D] on a grid (H, W) -> [B, P + H W, D] (d'Ascoli et al. 2021, ConViT, eq. 6 to 8).

    With a `locality_strength` s, heads start as the taps of a convolution: v is the identity, and head h attends by
    position as softmax(-s |delta - target_h|^2). `None` starts them at random. The P tokens before the grid's (a class
    token) see and are seen by content alone. With `keep`, int64 [B, M], the tokens are [B, P + M, D], the patches at
    these places of the grid, which attend to each other alone. Raises ValueError for a strength that is not above 0,
    without a grid, or with fewer tokens than places.
    """

    embed_dim: int
    num_heads: int
    qkv_bias: bool = False
    qk_scale: float | None = None  # D/h to the power -1/2
    attn_drop: float = attrs.field(default=0.0, validator=is_rate)
    proj_drop: float = attrs.field(default=0.0, validator=is_rate)
    locality_strength: float | None = attrs.field(default=1.0)
    qk: Linear = attrs.field(init=False)
    v: Linear = attrs.field(init=False)
    proj: Linear = attrs.field(init=False)
    pos_proj: Linear = attrs.field(init=False)

    @locality_strength.validator
    def _centres(self, field: attrs.Attribute, value: float | None) -> None:
        if value is not None:
            above_0(self, field, value)

    @qk.default
    def _qk(self) -> Linear:
        check_heads(self.embed_dim, self.num_heads)
        return Linear(self.embed_dim, 2 * self.embed_dim, self.qkv_bias)

    @v.default
    def _v(self) -> Linear:
        std = 0.02 if self.locality_strength is None else 0.0  # the identity takes its place: draw nothing
        return Linear(self.embed_dim, self.embed_dim, self.qkv_bias, std)

    @proj.default
    def _proj(self) -> Linear:
        return Linear(self.embed_dim, self.embed_dim)

    @pos_proj.default
    def _pos_proj(self) -> Linear:
        return Linear(3, self.num_heads)

    @property
    def is_random(self) -> bool:
        return self.attn_drop > 0 or self.proj_drop > 0

    def init(self, key: Tensor) -> Params:
        """qk, v, proj, pos_proj, and gating_param [h] of ones: a gate of .731 for position."""
        params = Block.init(self, key)
        params["gating_param"] = torch.ones(self.num_heads, device=key.device, dtype=torch.float32)
        if self.locality_strength is not None:
            params["v"]["weight"] = torch.eye(self.embed_dim, device=key.device, dtype=torch.float32)
            params["pos_proj"]["weight"] = local_positions(self.num_heads, self.locality_strength).to(key.device)
        return params

    def __call__(
        self,
        params: Params,
        x: Tensor,
        *,
        grid: Grid | None = None,
        keep: Tensor | None = None,
        key: Tensor | None = None,
    ) -> Tensor:
        check_tokens(x, self.embed_dim)
        grid = checked_grid(grid, keep, x.shape[1])
        both = side_by_side(params["qk"], params["v"])  # one product: x is read once, and has one gradient
        qkv = F.linear(x, both["weight"], both.get("bias")).view(*x.shape[:2], 3, self.num_heads, -1)
        y = self._attend(params, qkv, grid, keep, key)
        y = self.proj(params["proj"], y.transpose(1, 2).flatten(2))  # [B, N, D]
        return dropout(y, self.proj_drop, key)

    def weights(self, params: Params, x: Tensor, *, grid: Grid | None = None) -> Tensor:
        """Who attends to whom, as `__call__` mixes it: tokens [B, P + H W, D] -> [B, h, P + H W, P + H W].

        Rows sum to 1. Raises ValueError without a grid, or with fewer tokens than places.
        """
        content = self.content_weights(params, x)
        position = self.position_weights(params, checked_grid(grid, None, x.shape[1]))
        return mixed_weights(content, position, params["gating_param"].sigmoid())

    def content_weights(self, params: Params, x: Tensor) -> Tensor:
        """Attention by content alone, before the gate: tokens [B, N, D] -> [B, h, N, N]. Rows sum to 1."""
        check_tokens(x, self.embed_dim)
        q, k = by_head(self.qk(params["qk"], x).view(*x.shape[:2], 2, self.num_heads, -1))
        return attention_weights(q, k, self.qk_scale)

    def position_weights(self, params: Params, grid: Grid) -> Tensor:
        """Attention by position alone, before the gate, the same for every image: -> [h, H W, H W]. Rows sum to 1."""
        rows, cols = position_attention(params["pos_proj"]["weight"], params["pos_proj"]["bias"], grid)
        return torch.einsum("hyY,hxX->hyxYX", rows, cols).flatten(3).flatten(1, 2)

    def _attend(self, params: Params, qkv: Tensor, grid: Grid, keep: Tensor | None, key: Tensor | None) -> Tensor:
        """qkv [B, N, 3, h, d] -> [B, h, N, d]."""
        weight, bias = params["pos_proj"]["weight"], params["pos_proj"]["bias"]
        gate, scale, drop = params["gating_param"].sigmoid(), self.qk_scale, self.attn_drop
        q, k, v = by_head(qkv)
        if keep is not None:
            position = position_among(weight, bias, keep, grid[1])
            return gpsa_among(q, k, v, position, gate, scale=scale, drop=drop, key=key)
        factors, prefix = position_attention(weight, bias, grid), qkv.shape[1] - grid[0] * grid[1]
        if key is not None and drop > 0:
            return gpsa_dense(q, k, v, *factors, gate, scale=scale, num_prefix_tokens=prefix, drop=drop, key=key)
        return gpsa_packed(qkv, *factors, gate, scale=scale, num_prefix_tokens=prefix)


def checked_grid(grid: Grid | None, keep: Tensor | None, num_tokens: int) -> Grid:
    """The grid. Raises ValueError where there is none, or more patches, all of it or those kept, than tokens."""
    if grid is None or num_tokens < (grid[0] * grid[1] if keep is None else keep.shape[1]):
        kept = "" if keep is None else f", of which {keep.shape[1]} patches are kept"
        raise ValueError(
            f"{num_tokens} tokens and grid {grid}{kept}: GPSA attends by place; give grid=(height, width) of the patch "
            "tokens"
        )
    return grid


def local_positions(num_heads: int, strength: float) -> Tensor:
    """Weights of (dx, dy, dx^2 + dy^2) whose softmax is centred on each head's target patch: -> [h, 3].

    Targets lie on a rectangle of a x b = h patches around the query, as square as h allows and never taller than wide:
    3 x 3 for 9 heads (the paper's, as for every square), 2 x 4 for 8, 1 x 7 for 7. Heads run down the columns.
    """
    high = max(a for a in range(1, math.isqrt(num_heads) + 1) if num_heads % a == 0)
    wide = num_heads // high
    targets = [(x - (wide - 1) / 2, y - (high - 1) / 2) for x in range(wide) for y in range(high)]
    return strength * torch.tensor([[2 * dx, 2 * dy, -1] for dx, dy in targets], dtype=torch.float32)
