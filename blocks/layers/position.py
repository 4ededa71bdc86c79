"""Learned absolute position embedding, resized to the grid it meets."""

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
