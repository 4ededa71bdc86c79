"""ConViT: a vision transformer whose first layers start as convolutions."""

import attrs
from torch import Tensor

from blocks.block import Block, Params
from blocks.checks import is_whole
from blocks.layers.attention import Attention
from blocks.layers.drop import Dropout
from blocks.layers.gpsa import GPSA
from blocks.layers.norm import LayerNorm
from blocks.layers.patch_embed import PatchEmbed
from blocks.layers.token import ClassToken
from blocks.trunks.assemble import assemble, drop_path_rates, encoder_layer, image_grid, positions
from blocks.trunks.model import Model
from blocks.trunks.parts import Parts, among


@attrs.frozen
class ConViT(Parts, Block):
    """images [B, C, H, W] -> tokens [B, P + N, D], P = 1 with a class token, 2 if distilled (d'Ascoli et al. 2021).

    The class token joins before layer `cls_layer` of `blocks`: after the local layers in the paper, 0 for before them.
    It has no position embedding. Any image that patches tile will do. Raises ValueError for no such layer.
    """

    cls_layer: int = attrs.field(kw_only=True)

    @cls_layer.validator
    def _is_a_layer(self, _: attrs.Attribute, value: int) -> None:
        depth = len(self.blocks)
        if not is_whole(value, 0) or value > depth:
            raise ValueError(f"cls_layer {value!r} is not among the {depth} layers; use 0 to {depth}")

    def begin(self, params: Params, patches: Tensor, grid: tuple[int, int], keep: Tensor | None = None) -> Tensor:
        return among(self.place(params, patches, grid), keep)

    def enter(self, params: Params, x: Tensor, layer: int) -> Tensor:
        return self.join(params, x) if layer == self.cls_layer else x


def convit(
    *,
    img_size: int | tuple[int, int] = 224,
    patch_size: int = 16,
    in_chans: int = 3,
    num_classes: int = 1000,
    global_pool: str = "token",
    embed_dim: int = 432,
    depth: int = 12,
    num_heads: int = 9,
    mlp_ratio: float = 4.0,
    qkv_bias: bool = False,
    qk_scale: float | None = None,
    init_values: float | None = None,
    class_token: bool = True,
    use_pos_embed: bool = True,
    pos_embed: str = "learn",
    local_up_to_layer: int = 10,
    class_token_in_local_layers: bool = False,
    locality_strength: float = 1.0,
    use_local_init: bool = True,
    drop_rate: float = 0.0,
    pos_drop_rate: float = 0.0,
    proj_drop_rate: float = 0.0,
    attn_drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    head: Block | None = None,
) -> Model:
    """A ConViT and its head: images [B, C, H, W] -> logits [B, num_classes], or features [B, D] for num_classes=0.

    Layers below `local_up_to_layer` (0 to depth) are GPSA, the others plain attention. A `locality_strength` of 0 or
    less means 1 / (layer + 1). `embed_dim` is the whole width (timm's convit takes it per head). The other knobs are
    `vit`'s; `global_pool="avg"` is norm, then mean over patches. Raises ValueError for what does not fit.
    """
    _check_local(local_up_to_layer, depth, class_token and not class_token_in_local_layers and global_pool == "token")

    def attention(i: int) -> Attention | GPSA:
        if i >= local_up_to_layer:
            return Attention(embed_dim, num_heads, qkv_bias, qk_scale, attn_drop_rate, proj_drop_rate)
        strength = (1 / (i + 1) if locality_strength <= 0 else locality_strength) if use_local_init else None
        return GPSA(embed_dim, num_heads, qkv_bias, qk_scale, attn_drop_rate, proj_drop_rate, strength)

    trunk = ConViT(
        PatchEmbed(patch_size, in_chans, embed_dim),
        ClassToken(embed_dim) if class_token else None,
        positions(pos_embed, image_grid(img_size, patch_size), embed_dim) if use_pos_embed else None,
        Dropout(pos_drop_rate),
        tuple(
            encoder_layer(attention(i), mlp_ratio, rate, init_values)
            for i, rate in enumerate(drop_path_rates(drop_path_rate, depth))
        ),
        LayerNorm(embed_dim),
        cls_layer=0 if class_token_in_local_layers else local_up_to_layer,
    )
    return assemble(trunk, global_pool, None, num_classes, head, drop_rate)


def _check_local(local_up_to_layer: int, depth: int, pools_late_token: bool) -> None:
    if not is_whole(local_up_to_layer, 0) or local_up_to_layer > depth:
        raise ValueError(f"local_up_to_layer {local_up_to_layer!r} is not among the {depth} layers; use 0 to {depth}")
    if pools_late_token and local_up_to_layer == depth:
        raise ValueError(
            f"local_up_to_layer {depth} of depth {depth} leaves no layer in which the class token sees the image; "
            f"use at most {depth - 1} local layers (--local-layers), in Python also class_token_in_local_layers=True "
            'or global_pool="avg"'
        )
