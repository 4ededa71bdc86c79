"""Attention by content and distance: queries and keys are turned by their patches' places."""

import math
from collections.abc import Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from blocks.block import Params
from blocks.checks import above_0
from blocks.layers.attention import Attention
from blocks.layers.encoder import inner

Grid = tuple[int, int]


@attrs.frozen
class RotaryAttention(Attention):
    """tokens [B, P + H W, D] on a grid (H, W) -> [B, P + H W, D], patches placed by rotation (Su et al. 2021).

    In two axes as in DINOv3 (Simeoni et al. 2025): a grid of any size spans -1 to 1, so that a larger image is a finer
    grid. The P tokens before the patches are not turned. With `keep`, int64 [B, M], the tokens are [B, P + M, D], the
    patches at these places. `turns` are what the trunk made of these for all layers; else the layer makes its own.
    Raises ValueError for heads whose width is no multiple of 4, without a grid, or with fewer
    tokens than places.
    """

    temperature: float = attrs.field(default=100.0, validator=above_0)  # above all periods, in halves of the grid

    def __attrs_post_init__(self) -> None:
        width = self.width
        if width % 4:
            raise ValueError(
                f"embed_dim {self.embed_dim} over num_heads {self.num_heads} makes heads {width} wide, and turning "
                f"pairs in two axes wants a multiple of 4; use embed_dim {math.ceil(width / 4) * 4 * self.num_heads}"
            )

    @property
    def width(self) -> int:
        """d, a head's."""
        return self.embed_dim // self.num_heads

    def turns(self, x: Tensor, grid: Grid | None, keep: Tensor | None = None) -> Tensor:
        """Cosines and sines for tokens x: [2, H W, d / 2], of the places `keep` alone [2, B, 1, M, d / 2]."""
        if grid is None or x.shape[1] < (grid[0] * grid[1] if keep is None else keep.shape[1]):
            raise ValueError(
                f"{x.shape[1]} tokens and grid {grid}: patches are turned by place; give grid=(height, width)"
            )
        angles = patch_angles(grid, x[..., : self.width], self.temperature)
        angles = angles if keep is None else angles[keep][:, None]  # [B, 1, M, d / 2]
        return torch.stack((angles.cos(), angles.sin()))

    def _project(
        self,
        params: Params,
        x: Tensor,
        grid: Grid | None,
        keep: Tensor | None = None,
        turns: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        q, k, v = super()._project(params, x, grid)
        cos, sin = self.turns(x, grid, keep) if turns is None else turns
        return turned(q, cos, sin), turned(k, cos, sin), v


def layer_turns(
    layers: Sequence[Any], x: Tensor, grid: Grid | None, keep: Tensor | None = None
) -> list[dict[str, Tensor]]:
    """The `turns` of each layer for tokens x, made once for all that turn alike; none for layers that do not turn."""
    made: dict[tuple[int, float], Tensor] = {}
    found: list[dict[str, Tensor]] = []
    for layer in layers:
        attn = getattr(inner(layer), "attn", None)
        if isinstance(attn, RotaryAttention):
            kind = attn.width, attn.temperature
            made[kind] = attn.turns(x, grid, keep) if kind not in made else made[kind]
            found.append({"turns": made[kind]})
        else:
            found.append({})
    return found


def turning_periods(count: int, temperature: float, **how: Any) -> Tensor:
    """How many halves of the grid a whole turn takes, pair by pair of an axis: [count], from 1 to below temperature."""
    return temperature ** (torch.arange(count, **how) / count)


def patch_angles(grid: Grid, like: Tensor, temperature: float) -> Tensor:
    """How far the pairs of heads `like` [..., d] are turned at each patch, d / 4 by row, d / 4 by column: [H W, d / 2].

    In float32 at least.
    """
    how: dict[str, Any] = {"device": like.device, "dtype": torch.promote_types(like.dtype, torch.float32)}
    periods = turning_periods(like.shape[-1] // 4, temperature, **how)
    centres = (2 * (torch.arange(length, **how) + 0.5) / length - 1 for length in grid)
    rows, cols = (2 * math.pi * centre[:, None] / periods for centre in centres)  # [H, d / 4], [W, d / 4]
    rows, cols = rows[:, None].expand(-1, grid[1], -1), cols[None].expand(grid[0], -1, -1)
    return torch.cat((rows, cols), -1).flatten(0, 1)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [B, h, P + N, d], the pair (i, d / 2 + i) of each of the last N turned by its angle, [N, d / 2]."""
    prefix, patches = x.split((x.shape[2] - cos.shape[-2], cos.shape[-2]), 2)
    a, b = patches.chunk(2, -1)
    return torch.cat((prefix, torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)), 2)
