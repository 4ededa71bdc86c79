"""What the factories of all trunks share."""

from blocks.block import Block
from blocks.layers.attention import Attention
from blocks.layers.encoder import EncoderLayer
from blocks.layers.gpsa import GPSA
from blocks.layers.heads import LinearHead
from blocks.layers.mlp import Mlp
from blocks.layers.norm import LayerNorm
from blocks.layers.pool import MeanPool, TokenPool
from blocks.layers.position import PositionEmbedding, SinCosPosition
from blocks.layers.scale import LayerScale
from blocks.trunks.model import Model, Trunk


def image_grid(img_size: int | tuple[int, int], patch_size: int) -> tuple[int, int]:
    """Patches along height and width of the images a model is made for."""
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    if patch_size < 1 or height < patch_size or width < patch_size or height % patch_size or width % patch_size:
        raise ValueError(f"img_size {height} x {width} is not tiled by patch_size {patch_size}; use multiples of it")
    return height // patch_size, width // patch_size


def positions(
    kind: str, grid: tuple[int, int], embed_dim: int, num_prefix_tokens: int = 0
) -> PositionEmbedding | SinCosPosition:
    """The position embedding of that kind. Raises ValueError for an unknown one."""
    if kind not in ("learn", "sincos"):
        raise ValueError(f'pos_embed {kind!r} is not known; use "learn" or "sincos", or use_pos_embed=False for none')
    return (PositionEmbedding if kind == "learn" else SinCosPosition)(grid, embed_dim, num_prefix_tokens)


def encoder_layer(
    attn: Attention | GPSA, mlp_ratio: float, drop_path: float, init_values: float | None
) -> EncoderLayer:
    """The layer around an attention: norms, MLP with the attention's dropout rate, layer scales if there are values."""
    width = attn.embed_dim
    mlp = Mlp(width, int(width * mlp_ratio), attn.proj_drop)
    ls1, ls2 = (None, None) if init_values is None else (LayerScale(width, init_values),) * 2
    return EncoderLayer(LayerNorm(width), attn, LayerNorm(width), mlp, drop_path, ls1, ls2)


def assemble(
    trunk: Trunk, global_pool: str, fc_norm: LayerNorm | None, num_classes: int, head: Block | None, drop_rate: float
) -> Model:
    """Trunk, pool and head as one model. Raises ValueError for a pool that the trunk cannot serve."""
    if global_pool not in ("token", "avg"):
        raise ValueError(f'global_pool {global_pool!r} is not known; use "token" or "avg"')
    if global_pool == "token" and trunk.num_prefix_tokens == 0:
        raise ValueError('global_pool "token" needs the class token; use class_token=True or global_pool="avg"')
    pool = TokenPool() if global_pool == "token" else MeanPool(trunk.num_prefix_tokens, fc_norm)
    if head is None and num_classes:
        head = LinearHead(trunk.embed_dim, num_classes)
    return Model(trunk, pool, head, drop_rate)
