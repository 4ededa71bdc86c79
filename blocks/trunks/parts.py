"""What trunks of encoder layers are made of."""

import attrs
import torch
from torch import Tensor

from blocks.block import Params, part
from blocks.layers.drop import Dropout
from blocks.layers.encoder import EncoderLayer, layer_draws
from blocks.layers.norm import LayerNorm
from blocks.layers.patch_embed import PatchEmbed
from blocks.layers.position import PositionEmbedding, SinCosPosition
from blocks.layers.rotary import layer_turns
from blocks.layers.token import ClassToken, RegisterTokens
from blocks.random import per_sample


@attrs.frozen
class Parts:
    """The fields and the face that ViT and ConViT share: they differ in where tokens and positions join the patches."""

    patch_embed: PatchEmbed
    cls_token: ClassToken | None
    pos_embed: PositionEmbedding | SinCosPosition | None
    pos_drop: Dropout
    blocks: tuple[EncoderLayer, ...]
    norm: LayerNorm | None
    dist_token: ClassToken | None = attrs.field(default=None, kw_only=True)
    reg_token: RegisterTokens | None = attrs.field(default=None, kw_only=True)

    @property
    def embed_dim(self) -> int:
        return self.patch_embed.embed_dim

    @property
    def num_prefix_tokens(self) -> int:
        registers = 0 if self.reg_token is None else self.reg_token.num_tokens
        return (self.cls_token is not None) + (self.dist_token is not None) + registers

    @property
    def is_random(self) -> bool:
        return self.pos_drop.is_random or any(layer.is_random for layer in self.blocks)

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Patches along height and width. Raises ValueError for images that patches do not tile."""
        return self.patch_embed.grid(images)

    def embed(self, params: Params, images: Tensor) -> Tensor:
        """images [B, C, H, W] -> patches [B, N, D], row by row, without positions."""
        return self.patch_embed(part(params, "patch_embed"), images)

    def encode(
        self,
        params: Params,
        patches: Tensor,
        *,
        grid: tuple[int, int],
        key: Tensor | None = None,
        keep: Tensor | None = None,
    ) -> Tensor:
        """patches [B, N, D] of a grid -> tokens [B, P + N, D]; of those at the places `keep` alone: [B, P + M, D].

        keep is int64 [B, M]. Kept patches have their own places' positions; the others are not there for any token.
        """
        key = per_sample(key, patches.shape[0]) if key is not None and self.is_random else None
        x = self.pos_drop({}, self.begin(params, patches, grid, keep), key=key)
        layers = part(params, "blocks")
        knobs = zip(layer_draws(self.blocks, key, x), layer_turns(self.blocks, x, grid, keep), strict=True)
        for i, (draws, turns) in enumerate(knobs):
            x = self.enter(params, x, i)
            x = self.blocks[i](part(layers, str(i)), x, grid=grid, keep=keep, **draws, **turns)
        x = self.enter(params, x, len(self.blocks))
        return x if self.norm is None else self.norm(params["norm"], x)

    def begin(self, params: Params, patches: Tensor, grid: tuple[int, int], keep: Tensor | None = None) -> Tensor:
        """patches [B, N, D] -> the tokens that encoding begins with, positions added."""
        raise NotImplementedError(f"{type(self).__name__} does not say which tokens it begins with")

    def enter(self, params: Params, x: Tensor, layer: int) -> Tensor:
        """Tokens as layer `layer` takes them, the number of layers for the norm: some may join on the way."""
        return x

    def intermediate_tokens(self, params: Params, images: Tensor) -> tuple[Tensor, ...]:
        """images [B, C, H, W] -> tokens as each layer takes them, then as the norm does: depth + 1 of [B, P + N, D].

        What layer i gives stands at i + 1, before any norm. P is smaller where the class token has not joined yet.
        """
        patches, grid = self.embed(params, images), self.grid(images)
        tokens = [self.enter(params, self.begin(params, patches, grid), 0)]
        for i, (layer, turns) in enumerate(zip(self.blocks, layer_turns(self.blocks, tokens[0], grid), strict=True)):
            x = layer(part(params["blocks"], str(i)), tokens[i], grid=grid, **turns)
            tokens.append(self.enter(params, x, i + 1))
        return tuple(tokens)

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        patches = self.embed(params, x)
        return self.encode(params, patches, grid=self.grid(x), key=key)

    def join(self, params: Params, x: Tensor) -> Tensor:
        """tokens [B, N, D] -> [B, P + N, D]: the class token, the distillation token, registers, then the others."""
        if self.reg_token is not None:
            x = self.reg_token(params["reg_token"], x)
        if self.dist_token is not None:
            x = self.dist_token(params["dist_token"], x)
        return x if self.cls_token is None else self.cls_token(params["cls_token"], x)

    def place(self, params: Params, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """tokens with the positions of a grid, where there are any."""
        return x if self.pos_embed is None else self.pos_embed(params.get("pos_embed", {}), x, grid=grid)


def among(x: Tensor, keep: Tensor | None, num_prefix_tokens: int = 0) -> Tensor:
    """tokens [B, P + N, D] -> the prefix tokens and those of the places `keep` [B, M]: [B, P + M, D]; all for None."""
    if keep is None:
        return x
    prefix = torch.arange(num_prefix_tokens, device=keep.device).expand(keep.shape[0], -1)
    places = torch.cat((prefix, keep + num_prefix_tokens), 1)
    return x.gather(1, places[..., None].expand(-1, -1, x.shape[-1]))
