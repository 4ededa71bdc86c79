"""A position embedding that was learned on one grid, for a model of another grid or with other prefix tokens."""

import math
from collections.abc import Container

import torch
from torch import Tensor

from blocks.layers.position import PositionEmbedding

PREFIX = ("cls_token", "dist_token")  # the tokens that may stand before the patches', in order
Grid = tuple[int, int]


def fitted(
    found: Tensor, tokens: Container[str], wanted: PositionEmbedding, start: Tensor | None, grid: Grid | None = None
) -> tuple[Tensor, str]:
    """(the embedding [1, P + H*W, D] for the wanted one's grid and prefix, what was done to it or "").

    `tokens` has the names of the tokens that found's model had, `grid` its patches along height and width, where they
    were not a square. Prefix rows keep their token: those of a token that its model lacked are `start`'s, and zero
    where its model gave no token a position (DeiT III). Raises ValueError for a grid that the rows do not make.
    """
    names = [name for name in PREFIX if name in tokens] if wanted.num_prefix_tokens else []
    prefix, old = split_rows(found.shape[1], len(names), wanted.grid, grid)
    rows, patches, said = {n: found[:, i : i + 1] for i, n in enumerate(names[:prefix])}, found[:, prefix:], []
    if old != wanted.grid:
        patches = PositionEmbedding(old, wanted.embed_dim).resized(patches, wanted.grid)
        said.append(f"{old[0]} x {old[1]} patches to {wanted.grid[0]} x {wanted.grid[1]}")
    for i, name in enumerate(PREFIX[: wanted.num_prefix_tokens]):
        if name not in rows:
            row = None if prefix == 0 or start is None else start[:, i : i + 1].to(found)
            rows[name] = torch.zeros_like(found[:, :1]) if row is None else row
            said.append(f"row of {name} {'zero' if row is None else 'fresh'}")
    said += [f"row of {name} left out" for name in rows if name in names[wanted.num_prefix_tokens :]]
    return torch.cat([*(rows[name] for name in PREFIX[: wanted.num_prefix_tokens]), patches], dim=1), ", ".join(said)


def split_rows(rows: int, tokens: int, wanted: Grid, given: Grid | None) -> tuple[int, Grid]:
    """(prefix rows, grid) of an embedding: one row for each token, or else none for any."""
    for prefix in (tokens, 0):
        patches = rows - prefix
        if given is not None:
            if given[0] * given[1] == patches:
                return prefix, given
        elif patches == wanted[0] * wanted[1]:
            return prefix, wanted
        elif math.isqrt(max(patches, 0)) ** 2 == patches > 0:
            return prefix, (math.isqrt(patches), math.isqrt(patches))
    of = f"grid {given[0]} x {given[1]}" if given else "a square grid"
    raise ValueError(
        f"pos_embed: {rows} rows are not those of {of} after {tokens} prefix tokens; give grid=(height, width), the "
        "patches of the images it was trained on"
    )
