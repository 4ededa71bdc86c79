"""Which options of `vit` weights want that do not fit a model: said by what one of both has alone."""

import math

from blocks.tree import Flat

LATENT = "attn_pool.latent"
FC1, FC2 = "blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc2.weight"


def wanted_options(model: Flat, file: Flat) -> list[str]:
    """A line for each option by which the model's leaves and the file's differ, where names and shapes tell."""
    more, less = ({_kind(n) for n in a} - {_kind(n) for n in b} for a, b in ((file, model), (model, file)))
    registers = file["reg_token"].shape[1] if "reg_token" in more and file["reg_token"].ndim == 3 else 0
    norms_tokens = "norm.weight" in more and "fc_norm.weight" in less
    gated, is_gated = _gated(file), _gated(model)
    said = {
        "the file has layer scale: make the model with init_values=1e-5": "ls1.gamma" in more,
        "the file has no layer scale: make the model without init_values": "ls1.gamma" in less,
        f"the file has registers: make the model with reg_tokens={registers}, no_embed_class=True": registers > 0,
        "the file has no registers: make the model without reg_tokens": "reg_token" in less,
        "the file has no bias of queries, keys and values: make the model with qkv_bias=False": "qkv.bias" in less,
        "the file has a bias of queries, keys and values: make the model with qkv_bias=True": "qkv.bias" in more,
        'the file norms the mean of patches: make the model with global_pool="avg"': "fc_norm.weight" in more,
        'the file norms tokens, not their mean: make the model with global_pool="token" or fc_norm=False': norms_tokens,
        'the file has no pos_embed: make the model with pos_embed="rope", as DINOv3, or "sincos"': "pos_embed" in less,
        'the file pools by attention: make the model with global_pool="map", or give ignore=["attn_pool.*"]': LATENT
        in more,
        'the file does not pool by attention: make the model with global_pool="avg" or "token"': LATENT in less,
        "the file has no class token: make the model with class_token=False": "cls_token" in less,
        "the file has a norm before its layers, as CLIP's: make the model with pre_norm=True, norm_eps=1e-5 "
        '(act_layer="quick_gelu" for OpenAI\'s own)': "norm_pre.weight" in more,
        "the file has no norm before its layers: make the model without pre_norm": "norm_pre.weight" in less,
        f'the file has gated MLPs: make the model with mlp_layer="swiglu", mlp_ratio={gated}': gated > is_gated == 0,
        "the file has no gated MLPs: make the model without mlp_layer": is_gated > gated == 0 and FC1 in file,
        "the file has norms of queries and keys: docs/block.md writes an attention with some": "q_norm.weight" in more,
    }
    return [line for line, is_so in said.items() if is_so]


def _gated(leaves: Flat) -> float:
    """The MLP's ratio where the first layer's makes gates and values at once; 0 where it does not."""
    if FC1 not in leaves or FC2 not in leaves or leaves[FC1].shape[0] != 2 * leaves[FC2].shape[-1]:
        return 0
    return math.ceil(1e5 * leaves[FC2].shape[-1] / leaves[FC1].shape[-1]) / 1e5  # times D never below the width


def _kind(name: str) -> str:
    """A leaf's name below its layer's part: "blocks.3.attn.qkv.bias" -> "qkv.bias"."""
    parts = name.split(".")
    return ".".join(parts[-2:]) if parts[0] == "blocks" else name
