"""Attention on an image: where one token looks, by layer and head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from blocks.pictures.figures.mosaic import TILE, head_names, heat, mosaic, photograph

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Grid = tuple[int, int]


def attention_figure(
    picture: Tensor, maps: Mapping[str, Tensor], grid: Grid, query: tuple[int, int] | None = None
) -> Figure:
    """One image's attention from a token to all patches: picture uint8 [H, W, 3], maps {"blocks.0": [h, P + N, P + N]}.

    A row a layer, the picture first, then its heads, each brightest where it looks most, with that largest weight below
    it. `query` is a patch (row, column), framed in the picture, or None for the class token, in the layers where it
    takes part. Raises ValueError where it takes part in none, and for a patch that is not in the grid.
    """
    rows = {name: looks(weights, grid, query) for name, weights in maps.items() if query or num_prefix(weights, grid)}
    if not rows:
        raise ValueError("no layer has a class token to look from; name a patch: query=(row, column)")
    cell = max(1, TILE // max(grid))
    image = photograph(picture, (grid[0] * cell, grid[1] * cell))
    tiles = [[image, *(heat(look, cell) for look in heads)] for heads in rows.values()]
    columns = ["image", *head_names(max(map(len, rows.values())))]
    made = mosaic(tiles, list(rows), columns, scale="attention, of the\nlargest (below it)")
    for i, heads in enumerate(rows.values()):
        for j, look in enumerate(heads):
            made.caption(i, j + 1, f"{float(look.max()):.2f}")
        if query:
            made.frame(i, 0, (query[1] * cell, query[0] * cell, cell, cell))
    return made.figure


def looks(weights: Tensor, grid: Grid, query: tuple[int, int] | None) -> Tensor:
    """Where a token looks: weights [h, P + N, P + N] -> [h, H, W]. Raises ValueError for a patch not in the grid."""
    if query and not (0 <= query[0] < grid[0] and 0 <= query[1] < grid[1]):
        raise ValueError(f"query {query} is no patch of a grid of {grid[0]} x {grid[1]}; count rows and columns from 0")
    prefix = num_prefix(weights, grid)
    row = prefix + query[0] * grid[1] + query[1] if query else 0
    return weights[:, row, prefix:].unflatten(1, grid).float().cpu()


def num_prefix(weights: Tensor, grid: Grid) -> int:
    """P of weights [..., P + N, P + N]. Raises ValueError for weights that are not of this grid."""
    prefix = weights.shape[-1] - grid[0] * grid[1]
    if not 0 <= prefix <= 2:
        raise ValueError(f"weights of {weights.shape[-1]} tokens are not of a grid of {grid[0]} x {grid[1]} patches")
    return prefix
