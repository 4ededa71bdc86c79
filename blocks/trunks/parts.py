"""What trunks of encoder layers are made of."""

import attrs
from torch import Tensor

from blocks.block import Params
from blocks.layers.drop import Dropout
from blocks.layers.encoder import EncoderLayer
from blocks.layers.norm import LayerNorm
from blocks.layers.patch_embed import PatchEmbed
from blocks.layers.position import PositionEmbedding
from blocks.layers.token import ClassToken


@attrs.frozen
class Parts:
    """The fields and the face that ViT and ConViT share: they differ in where tokens and positions join the patches."""

    patch_embed: PatchEmbed
    cls_token: ClassToken | None
    pos_embed: PositionEmbedding | None
    pos_drop: Dropout
    blocks: tuple[EncoderLayer, ...]
    norm: LayerNorm | None
    dist_token: ClassToken | None = attrs.field(default=None, kw_only=True)

    @property
    def embed_dim(self) -> int:
        return self.patch_embed.embed_dim

    @property
    def num_prefix_tokens(self) -> int:
        return (self.cls_token is not None) + (self.dist_token is not None)

    @property
    def is_random(self) -> bool:
        return self.pos_drop.is_random or any(layer.is_random for layer in self.blocks)

    def join(self, params: Params, x: Tensor) -> Tensor:
        """tokens [B, N, D] -> [B, P + N, D]: the class token, the distillation token, then the others."""
        if self.dist_token is not None:
            x = self.dist_token(params["dist_token"], x)
        return x if self.cls_token is None else self.cls_token(params["cls_token"], x)
