"""Attention by position, as kernels of a convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from blocks.pictures.figures.mosaic import TILE, head_names, heat, mosaic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEEN = 0.99  # of the weights, which the cut-out shows of every kernel
LEAST = 2  # patches to each side


def kernels_figure(kernels: Tensor, layers: Sequence[int], gates: Tensor | None = None) -> Figure:
    """`position_kernels` [layers, h, H, W] of these layers, a row each, with the query framed in the middle.

    Each is brightest at its largest weight, and what lies so far out that no kernel has 1 % beyond is cut off. Below
    each: the largest weight and, with `gates` [layers, h], the head's share of position. Raises ValueError for none.
    """
    if not len(kernels):
        raise ValueError("there is no GPSA layer, whose kernels could be drawn; ask a ConViT's params")
    kernels = cut_out(kernels.float().cpu())
    height, width = kernels.shape[-2:]
    cell = max(1, TILE // max(height, width))
    tiles = [[heat(kernel, cell) for kernel in row] for row in kernels]
    names, scale = [f"blocks.{i}" for i in layers], "weight, of the\nlargest (below it)"
    made = mosaic(tiles, names, head_names(kernels.shape[1]), lines=1 if gates is None else 2, scale=scale)
    for i, row in enumerate(kernels):
        for j, kernel in enumerate(row):
            gate = "" if gates is None else f"\ngate {float(gates[i, j]):.2f}"
            made.caption(i, j, f"{float(kernel.max()):.2f}{gate}")
            made.frame(i, j, (width // 2 * cell, height // 2 * cell, cell, cell))
    return made.figure


def cut_out(kernels: Tensor) -> Tensor:
    """The middle of kernels [layers, h, H, W] that holds 99 % of each, or all: the same cut for all."""
    height, width = kernels.shape[-2:]
    for reach in range(LEAST, max(height, width) // 2):
        y, x = min(reach, height // 2), min(reach, width // 2)
        middle = kernels[..., height // 2 - y : height // 2 + y + 1, width // 2 - x : width // 2 + x + 1]
        if (middle.sum((-2, -1)) >= SEEN).all():
            return middle
    return kernels
