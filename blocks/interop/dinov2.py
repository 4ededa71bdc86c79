"""DINOv2's own files with registers, as timm has them (facebookresearch/dinov2: vision_transformer.py)."""

from blocks.tree import Flat

THEIRS = "register_tokens"


def as_timm(leaves: Flat) -> Flat:
    """Its leaves by timm's names, the class token's position added to the token; leaves of others as they are."""
    if THEIRS not in leaves or not {"cls_token", "pos_embed"} <= leaves.keys() or leaves["pos_embed"].ndim != 3:
        return leaves
    row, patches = leaves["pos_embed"].split((1, leaves["pos_embed"].shape[1] - 1), 1)
    renamed = {"reg_token" if name == THEIRS else name: leaf for name, leaf in leaves.items()}
    return renamed | {"cls_token": leaves["cls_token"] + row, "pos_embed": patches}
