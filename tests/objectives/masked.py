"""Tiny models of many patches, and the objectives that mask some of them."""

import torch

from blocks.layers.dino_head import DinoHead
from blocks.objectives.ibot import IBOT, draws_of
from blocks.objectives.mae import MAE
from blocks.objectives.masking import BlockMasks
from blocks.optim.schedule import linear
from blocks.random import fold_in
from blocks.trunks.convit import convit
from blocks.trunks.mae_decoder import mae_decoder
from blocks.trunks.vit import vit

TINY = {"img_size": 8, "patch_size": 2, "num_classes": 0, "embed_dim": 8, "num_heads": 2, "depth": 2}
LOCAL = {"local_up_to_layer": 1}
MASKS = BlockMasks(share=0.7, ratio=(0.2, 0.6))


def dino_head(classes=10):
    return DinoHead(8, classes, hidden_features=12, bottleneck_features=6)


def vit_model(head=None, **knobs):
    return vit(**TINY | knobs, head=head)


def convit_model(head=None, **knobs):
    return convit(**TINY | LOCAL | knobs, head=head)


def mae(model, **options):
    return MAE(model, mae_decoder(model, embed_dim=8, depth=1, num_heads=2), **options)


def ibot(model, **options):
    schedules = {"momentum": linear(0.8, 1.0, 10), "teacher_temp": linear(0.2, 0.4, 10), "patch_temp": 0.3}
    return IBOT(model, **schedules | {"masks": MASKS} | options)


def mask_of(objective, sample, view, a_key):
    keys = fold_in(draws_of(a_key, torch.tensor([sample]))[0], view)
    return objective.masks.draw(keys, (4, 4))[0]


def look(objective, params, image, mask=None):
    """(class logits [K], patches' logits [N, K'], feature [D]) of one image [3, H, W]."""
    trunk, grid = objective.model.trunk, objective.model.trunk.grid(image[None])
    patches = trunk.embed(params, image[None])
    if mask is not None:
        patches = torch.stack([params["mask_token"][0, 0] if m else p for m, p in zip(mask, patches[0], strict=True)])[
            None
        ]
    tokens = trunk.encode(params, patches, grid=grid)
    head, own = objective.model.head, objective.patch_head
    seen = tokens[0, trunk.num_prefix_tokens :]
    feature = objective.model.pooled(params, tokens)[0]
    of_patches = head(params["head"], seen) if own is None else own(params["patch_head"], seen)
    return head(params["head"], feature), of_patches, feature


DROPS = {"drop_path_rate": 0.4, "proj_drop_rate": 0.1}
OBJECTIVES = {
    "mae": lambda: mae(vit_model(pos_embed="sincos", **DROPS)),
    "mae, convit": lambda: mae(convit_model(**DROPS), mask_ratio=0.6),
    "ibot": lambda: ibot(vit_model(dino_head(), **DROPS)),
    "ibot, convit, two heads": lambda: ibot(convit_model(dino_head(), **DROPS), patch_head=dino_head(7)),
    "dinov2": lambda: ibot(convit_model(dino_head(), **DROPS), centring="sinkhorn", koleo_weight=0.3),
}
