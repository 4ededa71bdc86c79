"""Image towers in files of a whole CLIP, OpenAI's own and open_clip's, by timm's names (openai/CLIP: clip/model.py)."""

import re

from blocks.interop.renaming import renamed, table
from blocks.tree import Flat

NAME = "CLIP"
MARK = re.compile(r"^visual\.(class_embedding$|trunk\.)")
OPENAI_S = {"input_resolution", "context_length", "vocab_size"}  # leaves of OpenAI's archives, which had QuickGELU
EPS = 1e-5  # of the towers written by OpenAI and open_clip; those below "trunk" are timm's
RENAMED = table(
    (r"^class_embedding$", "cls_token"),
    (r"^positional_embedding$", "pos_embed"),
    (r"^conv1\.", "patch_embed.proj."),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm."),
    (r"^transformer\.resblocks\.", "blocks."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.ls_([12])\.", r".ls\1."),
    (r"\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"^trunk\.", ""),
    (r"^head\.proj\.", "head."),
)


def is_clip(names: Flat) -> bool:
    """Whether these are the names of a CLIP with a vision transformer."""
    return any(MARK.match(name) for name in names)


def has_own_tower(names: Flat) -> bool:
    """Whether OpenAI or open_clip wrote the tower, not timm."""
    return "visual.class_embedding" in names


def tower(leaves: Flat) -> Flat:
    """The leaves of the image tower, its projection as a head. Biases that the model has, and they have not, are 0."""
    own = {name.removeprefix("visual."): leaf for name, leaf in leaves.items() if name.startswith("visual.")}
    found = {renamed(name, RENAMED): leaf for name, leaf in own.items()}
    if "proj" in found:
        found["head.weight"] = found.pop("proj").mT
    if "cls_token" in found:
        found["cls_token"] = found["cls_token"].reshape(1, 1, -1)
    if "pos_embed" in found and found["pos_embed"].ndim == 2:
        found["pos_embed"] = found["pos_embed"][None]
    return with_bias(found if "norm_pre.weight" in found else with_bias(found, "patch_embed.proj"))  # CLIPA's


def with_bias(leaves: Flat, layer: str = "head") -> Flat:
    """The leaves, and a bias of zeros where that layer has none."""
    weight, bias = leaves.get(f"{layer}.weight"), f"{layer}.bias"
    return leaves if weight is None or bias in leaves else leaves | {bias: weight.new_zeros(weight.shape[:1])}
