"""The vision transformers of Hugging Face's transformers by timm's names: ViT, DeiT, DINOv2, DINOv3, CLIP, SigLIP."""

import re

import torch

from blocks.interop.clip import with_bias
from blocks.interop.renaming import renamed, table
from blocks.tree import Flat

NAME = "Hugging Face"
MARK = re.compile(r"(^|\.)embeddings\.(cls_token|class_embedding|patch_embeddings?\.)")
LEFT = re.compile(r"^(text_model\.|text_projection\.|logit_(scale|bias)$)|(^|\.)(pooler\.|position_ids$)")
OUTSIDE = re.compile(r"^((vit|deit|dinov2|dinov2_with_registers|dinov3_vit|vision_model|model)\.)+")
VIT_EPS = 1e-12  # of ViT and DeiT there, whose norms alone bear these names
RENAMED = table(
    (r"^embeddings\.(cls_token|class_embedding)$", "cls_token"),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.position_embedding(s|\.weight)$", "pos_embed"),
    (r"^embeddings\.patch_embeddings?\.(projection\.)?", "patch_embed.proj."),
    (r"^embeddings\.", ""),  # register_tokens, mask_token
    (r"^(encoder\.)?layers?\.(?=\d)", "blocks."),
    (r"\.(layernorm_before|layer_norm1)\.", ".norm1."),
    (r"\.(layernorm_after|layer_norm2)\.", ".norm2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.(attention|self_attn)\.(?:attention\.)?([qkv])(?:uery|ey|alue|_proj)\.", r".attn.\2."),
    (r"\.(attention\.output\.dense|attention\.o_proj|self_attn\.out_proj)\.", ".attn.proj."),
    (r"\.(intermediate\.dense|mlp\.weights_in)\.", ".mlp.fc1."),
    (r"\.(output\.dense|mlp\.weights_out|mlp\.down_proj)\.", ".mlp.fc2."),
    (r"\.mlp\.gate_proj\.", ".mlp.fc1_g."),
    (r"\.mlp\.up_proj\.", ".mlp.fc1_x."),
    (r"^pre_layrnorm\.", "norm_pre."),
    (r"^(post_layernorm|layernorm)\.", "norm."),
    (r"^head\.probe$", "attn_pool.latent"),
    (r"^head\.attention\.out_proj\.", "attn_pool.proj."),
    (r"^head\.layernorm\.", "attn_pool.norm."),
    (r"^head\.(attention|mlp)\.", r"attn_pool.\1."),
    (r"^(cls_)?classifier\.", "head."),
    (r"^distillation_classifier\.", "head_dist."),
    (r"^visual_projection\.", "head."),
)


def is_hugging_face(names: Flat) -> bool:
    """Whether these are names of such a model."""
    return any(MARK.search(name) for name in names)


def has_vit_eps(names: Flat) -> bool:
    """Whether its norms had `VIT_EPS`."""
    return any(".layernorm_before." in name for name in names)


def as_timm(leaves: Flat) -> Flat:
    """Its leaves by timm's names, but for registers and gated MLPs, which come by their first authors'."""
    own = {OUTSIDE.sub("", name): leaf for name, leaf in leaves.items() if leaf.numel() and not LEFT.search(name)}
    found = {renamed(name, RENAMED): leaf for name, leaf in own.items()}
    for name, axes in (("cls_token", 1), ("pos_embed", 2)):
        if name in found and found[name].ndim == axes:
            found[name] = found[name].reshape(1, -1, found[name].shape[-1])
    if "pos_embed" not in found and "register_tokens" in found:
        found["reg_token"] = found.pop("register_tokens")
    if not any(".mlp.fc1_g." in name for name in found):
        found = {name.replace(".mlp.fc1_x.", ".mlp.fc1."): leaf for name, leaf in found.items()}
    return with_bias(_pool(_joined(found)))


def _joined(leaves: Flat) -> Flat:
    """Queries, keys and values as one; keys without a bias beside queries with one have one of zeros (DINOv3)."""
    found = dict(leaves)
    for name in [name for name in leaves if ".attn.q." in name]:
        q = found.pop(name)
        k, v = (found.pop(name.replace(".attn.q.", f".attn.{part}."), torch.zeros_like(q)) for part in "kv")
        found[name.replace(".attn.q.", ".attn.qkv.")] = torch.cat((q, k, v))
    return found


def _pool(leaves: Flat) -> Flat:
    """SigLIP's pool as timm's: queries apart from keys and values."""
    found = dict(leaves)
    for leaf in ("weight", "bias"):
        joined = found.pop(f"attn_pool.attention.in_proj_{leaf}", None)
        if joined is not None:
            width = joined.shape[0] // 3
            found[f"attn_pool.q.{leaf}"], found[f"attn_pool.kv.{leaf}"] = joined[:width], joined[width:]
    return found
