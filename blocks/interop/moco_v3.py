"""MoCo v3's own ViTs, whose names and shapes do not tell all (facebookresearch/moco-v3: vits.py)."""

from typing import Any

import torch
from torch import Tensor

from blocks.interop.layouts import MOCO_V3
from blocks.interop.positions import Grid
from blocks.interop.spare import ROUNDING, has_rows_first
from blocks.interop.trunk import layers_of
from blocks.interop.weights import Weights
from blocks.layers.position import SinCosPosition
from blocks.tree import Flat

WIDTH, HEADS = 384, 12  # of its ViT-S; DeiT's and timm's has 6 of the same width
TABLE = SinCosPosition((14, 14), WIDTH, num_prefix_tokens=1)  # of 224 pixels
QKV = "blocks.0.attn.qkv.weight"
ROWS_FIRST = (
    "pos_embed has the sines of rows first, as MoCo v3's files have, the model's has those of columns: make it with "
    'pos_embed="learn" (--pos-embed learn), which takes the table as it is'
)


def misread(model: object, trunk: Any, found: Weights, leaves: Flat, grid: Grid | None) -> list[str]:
    """What a model that takes the leaves, or spares them, would compute otherwise than MoCo v3's: a line for each."""
    heads = other_heads(trunk, leaves) if found.layout.startswith(MOCO_V3) else ""
    own = "; if yours was made otherwise, give its leaves by names without base_encoder." if heads else ""
    return [line for line in (ROWS_FIRST if has_rows_first(model, leaves, grid) else "", heads + own) if line]


def other_heads(trunk: Any, leaves: Flat) -> str:
    """What to say where a trunk has the width of MoCo v3's ViT-S, as the leaves have, and not its heads; else ""."""
    qkv, layers = leaves.get(QKV), layers_of(trunk)
    if not layers or qkv is None or qkv.shape != (3 * WIDTH, WIDTH) or trunk.embed_dim != WIDTH:
        return ""
    heads = getattr(getattr(layers[0], "attn", None), "num_heads", HEADS)
    if heads == HEADS:
        return ""
    return (
        f"MoCo v3's ViT-S has {HEADS} heads, the model {heads}, and no shape tells: vit_small(num_heads={HEADS}) "
        f"computes what it did (--model vit_small_{HEADS}_heads)"
    )


def is_table(found: Tensor) -> bool:
    """Whether a position embedding is that of MoCo v3's ViT-S, whatever names its file has."""
    if found.shape != (1, 1 + TABLE.grid[0] * TABLE.grid[1], WIDTH):
        return False
    made = TABLE.table(TABLE.grid).roll(WIDTH // 2, -1)
    return torch.allclose(found.float(), made, rtol=0, atol=ROUNDING)
