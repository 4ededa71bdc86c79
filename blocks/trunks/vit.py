"""The vision transformer."""

import attrs
from torch import Tensor

from blocks.block import Block, Params
from blocks.checks import is_whole
from blocks.layers.attention import Attention
from blocks.layers.drop import Dropout
from blocks.layers.latent_attention import LatentAttention
from blocks.layers.norm import LayerNorm
from blocks.layers.patch_embed import PatchEmbed
from blocks.layers.rotary import RotaryAttention
from blocks.layers.token import ClassToken, RegisterTokens
from blocks.trunks.assemble import assemble, drop_path_rates, encoder_layer, image_grid, positions
from blocks.trunks.model import Model
from blocks.trunks.parts import Parts, among


@attrs.frozen
class ViT(Parts, Block):
    """images [B, C, H, W] -> tokens [B, P + N, D], P = 1 with a class token, 2 if distilled (Dosovitskiy et al. 2021).

    Registers are among the P. Prefix tokens join after the position embedding where that has no rows for them.
    Any image that patches tile will do: only the position embedding is resized to its grid. `norm_pre` norms what the
    first layer takes, as in CLIP.
    """

    norm_pre: LayerNorm | None = attrs.field(default=None, kw_only=True)

    def begin(self, params: Params, patches: Tensor, grid: tuple[int, int], keep: Tensor | None = None) -> Tensor:
        if self.pos_embed is None or self.pos_embed.num_prefix_tokens:
            x = self.place(params, self.join(params, patches), grid)
        else:
            x = self.join(params, self.place(params, patches, grid))
        return among(x, keep, self.num_prefix_tokens)

    def enter(self, params: Params, x: Tensor, layer: int) -> Tensor:
        return x if layer or self.norm_pre is None else self.norm_pre(params["norm_pre"], x)


def vit(
    *,
    img_size: int | tuple[int, int] = 224,
    patch_size: int = 16,
    in_chans: int = 3,
    num_classes: int = 1000,
    global_pool: str = "token",
    fc_norm: bool | None = None,
    embed_dim: int = 768,
    depth: int = 12,
    num_heads: int = 12,
    mlp_ratio: float = 4.0,
    qkv_bias: bool = True,
    qk_scale: float | None = None,
    init_values: float | None = None,
    class_token: bool = True,
    no_embed_class: bool = False,
    reg_tokens: int = 0,
    pre_norm: bool = False,
    norm_eps: float = 1e-6,
    act_layer: str = "gelu",
    mlp_layer: str = "mlp",
    use_pos_embed: bool = True,
    pos_embed: str = "learn",
    drop_rate: float = 0.0,
    pos_drop_rate: float = 0.0,
    proj_drop_rate: float = 0.0,
    attn_drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    head: Block | None = None,
) -> Model:
    """A ViT and its head: images [B, C, H, W] -> logits [B, num_classes], or features [B, D] for num_classes=0.

    Knobs bear timm's names and meanings: `global_pool` "token", "map" (a learned query's attention, SigLIP) or "avg"
    (mean over patches, then the final norm, or with `fc_norm=False` the norm first); `pos_embed` "learn", or without
    params "sincos" (MoCo v3, MAE) or "rope", which turns queries and keys (DINOv3); with `no_embed_class` patches alone
    have positions (DeiT III, and wherever `reg_tokens` registers join, as in DINOv2); `pre_norm` norms the embedded
    tokens, and patches are projected without bias (CLIP, with `norm_eps` 1e-5, OpenAI's also with `act_layer`
    "quick_gelu"); `mlp_layer` "mlp", or "swiglu" for gated ones, `mlp_ratio` D wide between gate and fc2 (DINOv2's
    giant, DINOv3's "plus"; for the former timm's ratio is twice ours, the width of gates and values together);
    `drop_rate` acts before the head, `pos_drop_rate` on the embedded tokens, `proj_drop_rate` in attention and MLP (the
    one dropout rate of the ViT paper and VISSL is the last two set alike); drop path grows linearly to its rate in the
    last layer. `head`, any block of features, replaces the linear one. Raises ValueError for what does not fit.
    """
    adds_positions = use_pos_embed and pos_embed != "rope"
    _check(reg_tokens, adds_positions and not no_embed_class, global_pool, fc_norm)
    attention = RotaryAttention if use_pos_embed and pos_embed == "rope" else Attention
    norms_mean = global_pool == "avg" and fc_norm is not False
    placed = int(class_token and not no_embed_class)  # prefix tokens that have a position
    norm = LayerNorm(embed_dim, norm_eps)
    trunk = ViT(
        PatchEmbed(patch_size, in_chans, embed_dim, bias=not pre_norm),
        ClassToken(embed_dim, std=1e-6) if class_token else None,  # timm's
        positions(pos_embed, image_grid(img_size, patch_size), embed_dim, placed) if adds_positions else None,
        Dropout(pos_drop_rate),
        tuple(
            encoder_layer(
                attention(embed_dim, num_heads, qkv_bias, qk_scale, attn_drop_rate, proj_drop_rate),
                mlp_ratio,
                rate,
                init_values,
                norm_eps,
                act_layer,
                mlp_layer,
            )
            for rate in drop_path_rates(drop_path_rate, depth)
        ),
        None if norms_mean else norm,
        reg_token=RegisterTokens(embed_dim, reg_tokens) if reg_tokens else None,
        norm_pre=norm if pre_norm else None,
    )
    hidden = int(embed_dim * mlp_ratio)
    attn_pool = LatentAttention(embed_dim, num_heads, hidden, norm_eps, act_layer) if global_pool == "map" else None
    return assemble(trunk, global_pool, norm if norms_mean else None, num_classes, head, drop_rate, attn_pool)


def _check(reg_tokens: int, places_prefix: bool, global_pool: str, fc_norm: bool | None) -> None:
    if not is_whole(reg_tokens, 0):
        raise ValueError(f"reg_tokens {reg_tokens!r} is not a number of registers; use a whole number, or 0 for none")
    if reg_tokens and places_prefix:
        raise ValueError(f"reg_tokens {reg_tokens} have no positions: use no_embed_class=True, as timm's models do")
    if fc_norm and global_pool != "avg":
        raise ValueError(f'fc_norm norms the mean of patches, and global_pool is "{global_pool}"; use "avg"')
