"""Factors on the rate by name, for an optimizer's `lr_scales`.

Two are joined as dicts are, the latter counts: {**layer_decay(params, 0.75), **head_lr(params, 10)}.
"""

import re

from blocks.optim.names import NO_DECAY
from blocks.tree import Tree, flatten

PATCHES = "patch_embed"
EMBEDDINGS = frozenset((*NO_DECAY, PATCHES, "norm_pre")) - {"gating_param"}  # before the first layer
HEADS = ("head", "head_dist")
LAYER = re.compile(r"(?:^|\.)blocks\.(\d+)\.")


def layer_decay(params: Tree, decay: float, patch_lr: float = 1.0) -> dict[str, float]:
    """{dotted name: decay ** layers above it}: the less the deeper (Bao et al. 2022, BEiT; He et al. 2022, MAE).

    Patches, tokens and positions are layer 0, `blocks.i` is layer i + 1, and norms and heads are the last, with factor
    1. A class token that joins late, ConViT's, is an embedding too. timm counts the last norm to the last block. The
    patch embedding has another factor, `patch_lr`, besides (Oquab et al. 2024, DINOv2's code: 0.2).
    Give it the params that are trained: each name must be one of the optimizer's.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"decay {decay} is not in (0, 1]; 1 gives all layers one rate")
    names = list(flatten(params))
    depth = max((int(found[1]) + 1 for name in names if (found := LAYER.search(name))), default=0)
    if not depth:
        raise ValueError(f"no name has blocks.0 in it, so there are no layers; names are like {', '.join(names[:3])}")
    scales = {name: decay ** (depth + 1 - layer_of(name, depth)) for name in names}
    return {name: scale * patch_lr if PATCHES in name.split(".") else scale for name, scale in scales.items()}


def layer_of(name: str, depth: int) -> int:
    """0 for embeddings, i + 1 for what is in blocks.i, depth + 1 for what follows."""
    if found := LAYER.search(name):
        return int(found[1]) + 1
    return 0 if EMBEDDINGS.intersection(name.split(".")) else depth + 1


def head_lr(params: Tree, factor: float) -> dict[str, float]:
    """{dotted name: factor} of the heads' params, `head` and `head_dist`: a separate rate for what starts afresh."""
    names = [name for name in flatten(params) if set(HEADS).intersection(name.split("."))]
    if not names:
        raise ValueError(f"no parameter lies below {' or '.join(HEADS)}")
    return dict.fromkeys(names, factor)
