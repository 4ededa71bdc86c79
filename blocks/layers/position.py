"""Absolute position embeddings: learned, resized to the grid it meets, and fixed, made for any grid."""

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from blocks.block import Block, Params
from blocks.random import normal


@attrs.frozen
class PositionEmbedding(Block):
    """tokens [B, P + h*w, D] -> the same plus positions, for any grid (h, w); the first P are prefix tokens.

    Its params are the tensor [1, P + H*W, D] itself, of the grid (H, W) it was made for.
    """

    grid: tuple[int, int]
    embed_dim: int
    num_prefix_tokens: int = 0

    def init(self, key: Tensor) -> Params:
        """[1, P + H*W, D], normal with deviation .02."""
        tokens = self.num_prefix_tokens + self.grid[0] * self.grid[1]
        return normal(key, (1, tokens, self.embed_dim)).mul_(0.02)

    def __call__(
        self, params: Params, x: Tensor, *, grid: tuple[int, int] | None = None, key: Tensor | None = None
    ) -> Tensor:
        return x + (params if grid is None or grid == self.grid else self.resized(params, grid))

    def resized(self, params: Tensor, grid: tuple[int, int]) -> Tensor:
        """The embedding for another grid, [1, P + h*w, D]: bicubic, antialiased, by target size; prefix unchanged."""
        prefix, patches = params[:, : self.num_prefix_tokens], params[:, self.num_prefix_tokens :]
        image = patches.unflatten(1, self.grid).permute(0, 3, 1, 2)  # [1, D, H, W]
        image = image.to(torch.promote_types(image.dtype, torch.float32))
        image = F.interpolate(image, size=grid, mode="bicubic", antialias=True)
        return torch.cat((prefix, image.flatten(2).transpose(1, 2).to(params.dtype)), dim=1)


@attrs.frozen
class SinCosPosition(Block):
    """tokens [B, P + h*w, D] -> the same plus fixed positions, for any grid (h, w); nothing for the P prefix tokens.

    A patch at column x and row y gets [sin xw, cos xw, sin yw, cos yw] of D/4 frequencies w = 10000^(-4i/D), in MAE's
    order (He et al. 2022, appendix; Chen et al. 2021, MoCo v3, section 5, whose own code has y before x). No params.
    `grid` is that of images it is made for, where a call gives none. Raises ValueError for a width that is not a
    multiple of 4.
    """

    grid: tuple[int, int]
    embed_dim: int = attrs.field()
    num_prefix_tokens: int = 0

    @embed_dim.validator
    def _check(self, _: attrs.Attribute, value: int) -> None:
        if value % 4 or value < 4:
            raise ValueError(
                f"embed_dim {value} is not a multiple of 4, as sines and cosines of two axes need it; "
                f"use {max(value // 4 * 4, 4)}, or learned positions"
            )

    def __call__(
        self, params: Params, x: Tensor, *, grid: tuple[int, int] | None = None, key: Tensor | None = None
    ) -> Tensor:
        return x + self.table(self.grid if grid is None else grid, x.dtype, x.device)

    def table(
        self, grid: tuple[int, int], dtype: torch.dtype = torch.float32, device: torch.device | None = None
    ) -> Tensor:
        """The positions of a grid: [1, P + h*w, D]."""
        height, width = grid
        rows, cols = (self._waves(length, device).to(dtype) for length in grid)  # [h, D/2], [w, D/2]
        rows, cols = rows[:, None].expand(-1, width, -1), cols[None].expand(height, -1, -1)
        patches = torch.cat((cols, rows), -1).flatten(0, 1)
        return F.pad(patches, (0, 0, self.num_prefix_tokens, 0))[None]

    def _waves(self, length: int, device: torch.device | None) -> Tensor:
        quarter = self.embed_dim // 4
        frequencies = 10000 ** (-torch.arange(quarter, device=device, dtype=torch.float64) / quarter)
        angles = torch.arange(length, device=device)[:, None] * frequencies
        return torch.cat((angles.sin(), angles.cos()), -1)
