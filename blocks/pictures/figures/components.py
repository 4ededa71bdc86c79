"""Principal components of patch tokens as colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from blocks.pictures.components import PatchPca
from blocks.pictures.figures.mosaic import TILE, mosaic, photograph

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EDGES = (0.01, 0.99)  # quantiles that become 0 and 1: single patches shall not take all the contrast


def pca_figure(pictures: Tensor, pca: PatchPca) -> Figure:
    """Pictures uint8 [B, H, W, 3], and below each its patches: red, green, blue are the components 1, 2, 3.

    Raises ValueError for another number of components.
    """
    count = pca.scores.shape[-1]
    if count != 3:
        raise ValueError(f"{count} components are not the 3 of red, green and blue; use patch_pca(..., count=3)")
    grid = tuple(pca.scores.shape[1:3])
    cell = max(1, TILE // max(grid))
    images = [photograph(picture, (grid[0] * cell, grid[1] * cell)) for picture in pictures]
    coloured = [_squares(colours, cell) for colours in as_colours(pca.scores)]
    shares = ", ".join(f"{share:.0%}" for share in pca.explained.tolist())
    below = f"red, green, blue: {shares} of the patch tokens' variance"
    return mosaic([images, coloured], ["image", "components\n1, 2, 3"], [], lines=0, below=below).figure


def as_colours(scores: Tensor) -> Tensor:
    """Scores [B, H, W, count] -> 0 to 1, each component stretched over all images alike."""
    flat = scores.flatten(0, 2).float().cpu()
    low, high = torch.quantile(flat, torch.tensor(EDGES), dim=0)
    return ((scores.float().cpu() - low) / (high - low).clamp_min(torch.finfo(torch.float32).tiny)).clamp(0, 1)


def _squares(colours: Tensor, cell: int) -> Tensor:
    return photograph((255 * colours.repeat_interleave(cell, 0).repeat_interleave(cell, 1)).round().byte(), None)
