"""Small stateless blocks that compose into vision transformers, and training as a pure function."""

from blocks.block import Block
from blocks.interop.checkpoints import load_weights
from blocks.interop.construction import build, describe
from blocks.interop.export import to_exported, to_onnx
from blocks.interop.features import intermediate_layers
from blocks.interop.from_module import ModuleBlock, from_module
from blocks.interop.module import to_module
from blocks.interop.module_trunk import ModuleTrunk, trunk_from_module
from blocks.interop.saving import load, save, saved_metadata
from blocks.interop.statistics import with_statistics
from blocks.interop.timm import from_timm, to_timm
from blocks.interop.vissl import to_vissl
from blocks.layers.attention import Attention
from blocks.layers.batch_norm import BatchNorm
from blocks.layers.checkpointed import Checkpointed, checkpointed
from blocks.layers.dino_head import DinoHead
from blocks.layers.drop import Dropout, DropPath
from blocks.layers.encoder import EncoderLayer
from blocks.layers.gpsa import GPSA
from blocks.layers.heads import LinearHead, ProjectionMlp, TanhMlpHead
from blocks.layers.latent_attention import LatentAttention
from blocks.layers.linear import Linear
from blocks.layers.mlp import Mlp
from blocks.layers.norm import LayerNorm
from blocks.layers.patch_embed import PatchEmbed
from blocks.layers.pool import AttentionPool, MeanPool, TokenPool
from blocks.layers.position import PositionEmbedding, SinCosPosition
from blocks.layers.published_heads import (
    barlow_projector,
    byol_predictor,
    byol_projector,
    dino_head,
    moco_v2_head,
    moco_v3_predictor,
    moco_v3_projector,
    simclr_head,
    swav_head,
    vicreg_expander,
)
from blocks.layers.rotary import RotaryAttention
from blocks.layers.scale import LayerScale
from blocks.layers.swiglu import SwiGLU
from blocks.layers.token import ClassToken, MaskToken, RegisterTokens
from blocks.layers.weight_norm import Prototypes, WeightNormLinear
from blocks.random import key
from blocks.runs.run import Run
from blocks.trunks.convit import ConViT, convit
from blocks.trunks.convit_variants import (
    convit_base,
    convit_base_plus,
    convit_small,
    convit_small_plus,
    convit_tiny,
    convit_tiny_plus,
)
from blocks.trunks.distilled import DistilledModel, distilled
from blocks.trunks.mae_decoder import MaeDecoder, mae_decoder
from blocks.trunks.model import Model
from blocks.trunks.vit import ViT, vit
from blocks.trunks.vit_variants import (
    deit_base,
    deit_base_distilled,
    deit_small,
    deit_small_distilled,
    deit_tiny,
    deit_tiny_distilled,
    vit_base,
    vit_huge,
    vit_large,
    vit_small,
    vit_tiny,
)

__all__ = [
    "GPSA",
    "Attention",
    "AttentionPool",
    "BatchNorm",
    "Block",
    "Checkpointed",
    "ClassToken",
    "ConViT",
    "DinoHead",
    "DistilledModel",
    "DropPath",
    "Dropout",
    "EncoderLayer",
    "LatentAttention",
    "LayerNorm",
    "LayerScale",
    "Linear",
    "LinearHead",
    "MaeDecoder",
    "MaskToken",
    "MeanPool",
    "Mlp",
    "Model",
    "ModuleBlock",
    "ModuleTrunk",
    "PatchEmbed",
    "PositionEmbedding",
    "ProjectionMlp",
    "Prototypes",
    "RegisterTokens",
    "RotaryAttention",
    "Run",
    "SinCosPosition",
    "SwiGLU",
    "TanhMlpHead",
    "TokenPool",
    "ViT",
    "WeightNormLinear",
    "barlow_projector",
    "build",
    "byol_predictor",
    "byol_projector",
    "checkpointed",
    "convit",
    "convit_base",
    "convit_base_plus",
    "convit_small",
    "convit_small_plus",
    "convit_tiny",
    "convit_tiny_plus",
    "deit_base",
    "deit_base_distilled",
    "deit_small",
    "deit_small_distilled",
    "deit_tiny",
    "deit_tiny_distilled",
    "describe",
    "dino_head",
    "distilled",
    "from_module",
    "from_timm",
    "intermediate_layers",
    "key",
    "load",
    "load_weights",
    "mae_decoder",
    "moco_v2_head",
    "moco_v3_predictor",
    "moco_v3_projector",
    "save",
    "saved_metadata",
    "simclr_head",
    "swav_head",
    "to_exported",
    "to_module",
    "to_onnx",
    "to_timm",
    "to_vissl",
    "trunk_from_module",
    "vicreg_expander",
    "vit",
    "vit_base",
    "vit_huge",
    "vit_large",
    "vit_small",
    "vit_tiny",
    "with_statistics",
]
