"""What the factories of all trunks share."""

from numbers import Integral, Real

from blocks.block import Block
from blocks.layers.attention import Attention
from blocks.layers.encoder import EncoderLayer
from blocks.layers.gpsa import GPSA
from blocks.layers.heads import LinearHead
from blocks.layers.latent_attention import LatentAttention
from blocks.layers.mlp import Mlp
from blocks.layers.norm import LayerNorm
from blocks.layers.pool import AttentionPool, MeanPool, TokenPool
from blocks.layers.position import PositionEmbedding, SinCosPosition
from blocks.layers.scale import LayerScale
from blocks.layers.swiglu import SwiGLU
from blocks.trunks.model import Model, Trunk


def image_grid(img_size: int | tuple[int, int], patch_size: int) -> tuple[int, int]:
    """Patches along height and width of the images a model is made for."""
    sides = img_size if isinstance(img_size, tuple) else (img_size, img_size)
    if len(sides) != 2 or not all(isinstance(side, Integral) for side in (*sides, patch_size)):
        raise ValueError(
            f"img_size {img_size!r} and patch_size {patch_size!r} are not whole numbers of pixels; img_size may be "
            "(height, width)"
        )
    height, width = sides
    if patch_size < 1 or height < patch_size or width < patch_size or height % patch_size or width % patch_size:
        raise ValueError(f"img_size {height} x {width} is not tiled by patch_size {patch_size}; use multiples of it")
    return height // patch_size, width // patch_size


def positions(
    kind: str, grid: tuple[int, int], embed_dim: int, num_prefix_tokens: int = 0
) -> PositionEmbedding | SinCosPosition:
    """The position embedding of that kind. Raises ValueError for an unknown one."""
    if kind not in ("learn", "sincos"):
        raise ValueError(
            f'pos_embed {kind!r} is not known; use "learn" or "sincos" (vit: or "rope"), or use_pos_embed=False'
        )
    return (PositionEmbedding if kind == "learn" else SinCosPosition)(grid, embed_dim, num_prefix_tokens)


def drop_path_rates(rate: float, depth: int) -> tuple[float, ...]:
    """Each layer's drop path rate, linear from 0 to `rate` in the last. Raises ValueError for no rate, or no depth."""
    if not isinstance(depth, int) or depth < 1:
        raise ValueError(f"depth {depth!r} is not a number of layers; use 1 or more")
    if not isinstance(rate, Real) or not 0 <= rate < 1:
        raise ValueError(f"drop_path_rate {rate!r} is not a drop rate; use 0 <= drop_path_rate < 1 (--drop-path)")
    return tuple(rate * i / max(depth - 1, 1) for i in range(depth))


def encoder_layer(
    attn: Attention | GPSA,
    mlp_ratio: float,
    drop_path: float,
    init_values: float | None,
    norm_eps: float = 1e-6,
    act_layer: str = "gelu",
    mlp_layer: str = "mlp",
) -> EncoderLayer:
    """The layer around an attention: norms, MLP with the attention's dropout rate, layer scales if there are values."""
    width = attn.embed_dim
    if not isinstance(mlp_ratio, Real) or not 1 <= width * float(mlp_ratio) < float("inf"):
        raise ValueError(f"mlp_ratio {mlp_ratio!r} of embed_dim {width} is no width of an MLP; 4 is usual")
    mlp = perceptron(mlp_layer, width, int(width * mlp_ratio), attn.proj_drop, act_layer)
    norm = LayerNorm(width, norm_eps)
    ls1, ls2 = (None, None) if init_values is None else (LayerScale(width, init_values),) * 2
    return EncoderLayer(norm, attn, norm, mlp, drop_path, ls1, ls2)


def perceptron(kind: str, width: int, hidden: int, drop: float, act_layer: str) -> Mlp | SwiGLU:
    """The MLP of that kind. Raises ValueError for an unknown one, and for an activation that is not its own."""
    if kind not in ("mlp", "swiglu"):
        raise ValueError(f'mlp_layer {kind!r} is not known; use "mlp" or "swiglu"')
    if kind == "mlp":
        return Mlp(width, hidden, drop, act_layer)
    if act_layer != "gelu":
        raise ValueError(f'act_layer "{act_layer}" is of mlp_layer "mlp"; "swiglu" has SiLU, leave it out')
    return SwiGLU(width, hidden, drop)


def assemble(
    trunk: Trunk,
    global_pool: str,
    fc_norm: LayerNorm | None,
    num_classes: int,
    head: Block | None,
    drop_rate: float,
    attn_pool: LatentAttention | None = None,
) -> Model:
    """Trunk, pool and head as one model. Raises ValueError for a pool that the trunk cannot serve."""
    if not isinstance(num_classes, Integral) or num_classes < 0:
        raise ValueError(f"num_classes {num_classes!r} is not a number of classes; use 1 or more, or 0 for features")
    pools = {"token": TokenPool(), "avg": MeanPool(trunk.num_prefix_tokens, fc_norm)}
    if attn_pool is not None:
        pools["map"] = AttentionPool(attn_pool, trunk.num_prefix_tokens)
    if global_pool not in pools:
        raise ValueError(f'global_pool {global_pool!r} is not known; use "token" or "avg" (vit: or "map")')
    if global_pool == "token" and getattr(trunk, "cls_token", None) is None:
        raise ValueError('global_pool "token" needs the class token; use class_token=True or global_pool="avg"')
    if head is None and num_classes:
        head = LinearHead(trunk.embed_dim, num_classes)
    return Model(trunk, pools[global_pool], head, drop_rate)
