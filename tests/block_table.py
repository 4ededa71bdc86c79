"""Every block of the library with a tiny constructor and an input: the common tests run over this table."""

from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import Tensor, nn

import blocks
from blocks import Block
from blocks.interop.from_module import ModuleBlock
from blocks.interop.module_trunk import AsTheyAre, ModuleTrunk
from blocks.layers.batch_norm import BatchNorm
from blocks.layers.compiled import Compiled
from blocks.layers.dino_head import DinoHead
from blocks.layers.position import SinCosPosition
from blocks.layers.token import MaskToken
from blocks.layers.weight_norm import Prototypes, WeightNormLinear
from blocks.trunks.distilled import distilled
from blocks.trunks.mae_decoder import mae_decoder

GRID = (2, 3)
KEEP = torch.tensor([0, 2, 3, 5, 6, 7, 8])  # places of tokens among masked ones


@attrs.frozen(eq=False)
class Case:
    """One block to test. `names` are its params' dotted names, `random` whether it drops anything, given a key."""

    make: Callable[[], Block]
    input: Callable[[], Tensor]
    names: tuple[str, ...] = ()
    random: bool = False
    options: dict[str, Any] = attrs.Factory(dict)


def features() -> Tensor:
    return torch.randn(3, 8, generator=torch.Generator().manual_seed(0))


def tokens() -> Tensor:
    return torch.randn(3, 1 + GRID[0] * GRID[1], 8, generator=torch.Generator().manual_seed(0))


def images() -> Tensor:
    return torch.randn(3, 3, 8, 12, generator=torch.Generator().manual_seed(0))


def weight_and_bias(*layers: str) -> tuple[str, ...]:
    return tuple(f"{layer}.{leaf}" for layer in layers for leaf in ("weight", "bias"))


def tiny_layer(attn: Block, rate: float = 0.0) -> Block:
    scale = blocks.LayerScale(8, 0.5)
    norm = blocks.LayerNorm(8)
    return blocks.EncoderLayer(norm, attn, norm, blocks.Mlp(8, 12, rate), rate, scale, scale)


def called(layer: Block, params: Any, x: Tensor, **knobs: Any) -> Tensor:
    """What stands for a compiled function."""
    return layer(params, x, **knobs)


def tiny_module() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4))


TINY = {"img_size": (8, 12), "patch_size": 4, "num_classes": 5, "embed_dim": 8, "num_heads": 2, "depth": 2}
DROPS = dict.fromkeys(("drop_rate", "pos_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate"), 0.5)

ATTENTION = ("qkv.weight", "qkv.bias", *weight_and_bias("proj"))
POSITIONAL = ("qk.weight", "v.weight", *weight_and_bias("proj", "pos_proj"), "gating_param")
MLP = weight_and_bias("fc1", "fc2")
LATENT = ("latent", *weight_and_bias("q", "kv", "proj", "norm", "mlp.fc1", "mlp.fc2"))


def layer_names(attention: tuple[str, ...], prefix: str = "") -> tuple[str, ...]:
    attn = tuple(f"attn.{name}" for name in attention)
    mlp = tuple(f"mlp.{name}" for name in MLP)
    return tuple(prefix + n for n in (*weight_and_bias("norm1"), *attn, *weight_and_bias("norm2"), *mlp))


EMBEDDING = weight_and_bias("patch_embed.proj")
VIT = (*EMBEDDING, "cls_token", "pos_embed", *(n for i in range(2) for n in layer_names(ATTENTION, f"blocks.{i}.")))
CONVIT = (
    *(*EMBEDDING, "cls_token", "pos_embed", *layer_names(POSITIONAL, "blocks.0.")),
    *(*layer_names(("qkv.weight", *ATTENTION[2:]), "blocks.1."), *weight_and_bias("norm")),
)

TABLE = {
    "Linear": Case(lambda: blocks.Linear(8, 4), features, ("weight", "bias")),
    "LayerNorm": Case(lambda: blocks.LayerNorm(8), tokens, ("weight", "bias")),
    "Mlp": Case(lambda: blocks.Mlp(8, 12, 0.5), tokens, MLP, random=True),
    "SwiGLU": Case(lambda: blocks.SwiGLU(8, 12, 0.5), tokens, MLP, random=True),
    "PatchEmbed": Case(lambda: blocks.PatchEmbed(4, 3, 8), images, weight_and_bias("proj")),
    "PositionEmbedding": Case(lambda: blocks.PositionEmbedding((3, 3), 8, 1), tokens, ("",), options={"grid": GRID}),
    "ClassToken": Case(lambda: blocks.ClassToken(8), tokens, ("",)),
    "RegisterTokens": Case(lambda: blocks.RegisterTokens(8, 4), tokens, ("",)),
    "SinCosPosition": Case(lambda: SinCosPosition((3, 3), 8, 1), tokens, options={"grid": GRID}),
    "MaskToken": Case(lambda: MaskToken(8), tokens, ("",), options={"keep": KEEP.expand(3, 7), "num_tokens": 9}),
    "Attention": Case(lambda: blocks.Attention(8, 2, True, None, 0.5, 0.5), tokens, ATTENTION, random=True),
    "RotaryAttention": Case(
        lambda: blocks.RotaryAttention(8, 2, True, None, 0.5, 0.5),
        tokens,
        ATTENTION,
        random=True,
        options={"grid": GRID},
    ),
    "GPSA": Case(
        lambda: blocks.GPSA(8, 2, False, None, 0.5, 0.5), tokens, POSITIONAL, random=True, options={"grid": GRID}
    ),
    "Dropout": Case(lambda: blocks.Dropout(0.5), tokens, random=True),
    "DropPath": Case(lambda: blocks.DropPath(0.5), tokens, random=True),
    "LayerScale": Case(lambda: blocks.LayerScale(8, 0.1), tokens, ("gamma",)),
    "EncoderLayer": Case(
        lambda: tiny_layer(blocks.Attention(8, 2), 0.5),
        tokens,
        (*layer_names(ATTENTION), "ls1.gamma", "ls2.gamma"),
        random=True,
    ),
    "Checkpointed": Case(
        lambda: blocks.Checkpointed(tiny_layer(blocks.Attention(8, 2), 0.5)),
        tokens,
        (*layer_names(ATTENTION), "ls1.gamma", "ls2.gamma"),
        random=True,
    ),
    "Compiled": Case(
        lambda: Compiled(tiny_layer(blocks.Attention(8, 2), 0.5), called),
        tokens,
        (*layer_names(ATTENTION), "ls1.gamma", "ls2.gamma"),
        random=True,
    ),
    "TokenPool": Case(blocks.TokenPool, tokens),
    "MeanPool": Case(lambda: blocks.MeanPool(1, blocks.LayerNorm(8)), tokens, weight_and_bias("fc_norm")),
    "LatentAttention": Case(lambda: blocks.LatentAttention(8, 2, 12), tokens, LATENT),
    "AttentionPool": Case(
        lambda: blocks.AttentionPool(blocks.LatentAttention(8, 2, 12), 1),
        tokens,
        tuple(f"attn_pool.{n}" for n in LATENT),
    ),
    "TanhMlpHead": Case(lambda: blocks.TanhMlpHead(8, 6, 4), features, MLP),
    "ProjectionMlp": Case(
        lambda: blocks.ProjectionMlp(8, 6, 4, depth=3), features, weight_and_bias("layers.0", "layers.1", "layers.2")
    ),
    "BatchNorm": Case(lambda: BatchNorm(8), features, ("weight", "bias")),
    "DinoHead": Case(
        lambda: DinoHead(8, 4, hidden_features=6, bottleneck_features=5),
        features,
        (*weight_and_bias("layers.0", "layers.1", "layers.2"), "last_layer.weight_v"),
    ),
    "WeightNormLinear": Case(lambda: WeightNormLinear(8, 4, learn_norm=True), features, ("weight_v", "weight_g")),
    "Prototypes": Case(lambda: Prototypes(8, 4), features, ("weight",)),
    "ViT": Case(
        lambda: blocks.vit(**TINY, **DROPS, pre_norm=True, act_layer="quick_gelu").trunk,
        images,
        ("patch_embed.proj.weight", *VIT[2:], *weight_and_bias("norm", "norm_pre")),
        random=True,
    ),
    "ConViT": Case(lambda: blocks.convit(**TINY, **DROPS, local_up_to_layer=1).trunk, images, CONVIT, random=True),
    "Model": Case(
        lambda: blocks.vit(**TINY, **DROPS, global_pool="avg"),
        images,
        (*VIT, *weight_and_bias("fc_norm", "head")),
        random=True,
    ),
    "DistilledModel": Case(
        lambda: distilled(blocks.vit(**TINY, **DROPS)),
        images,
        (*VIT, *weight_and_bias("norm"), "dist_token", *weight_and_bias("head", "head_dist")),
        random=True,
    ),
    "MaeDecoder": Case(
        lambda: mae_decoder(blocks.vit(**TINY), embed_dim=8, depth=1, num_heads=2),
        lambda: tokens()[:, :5].contiguous(),  # a matmul of strided rows folds otherwise with than without a gradient
        (
            *(*weight_and_bias("decoder_embed"), "mask_token", *layer_names(ATTENTION, "decoder_blocks.0.")),
            *weight_and_bias("decoder_norm", "decoder_pred"),
        ),
        options={"grid": GRID, "keep": KEEP[:4].expand(3, 4)},
    ),
    "ModuleBlock": Case(lambda: ModuleBlock(tiny_module), features, weight_and_bias("0", "2")),
    "ModuleTrunk": Case(lambda: ModuleTrunk(tiny_module, 4), features, weight_and_bias("0", "2")),
    "AsTheyAre": Case(AsTheyAre, features),
}
