"""A trunk, a pool and a head under one set of timm's names."""

from typing import Protocol

import attrs
from torch import Tensor

from blocks.block import Block, Params, part
from blocks.layers.drop import dropout, is_rate
from blocks.random import fold_in


class Trunk(Protocol):
    """The face of every trunk, a block of images [B, C, H, W] -> tokens [B, P + N, D]."""

    @property
    def embed_dim(self) -> int:
        """D."""

    @property
    def num_prefix_tokens(self) -> int:
        """P, the tokens before the patches': 1 with a class token."""

    @property
    def is_random(self) -> bool:
        """Whether it drops anything, given a key."""

    def init(self, key: Tensor) -> Params:
        """Fresh params."""

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Patches along height and width."""

    def embed(self, params: Params, images: Tensor) -> Tensor:
        """images -> patches [B, N, D], row by row, without positions."""

    def encode(
        self,
        params: Params,
        patches: Tensor,
        *,
        grid: tuple[int, int],
        key: Tensor | None = None,
        keep: Tensor | None = None,
    ) -> Tensor:
        """patches [B, N, D] -> tokens [B, P + N, D]; of those at places `keep`, int64 [B, M], alone: [B, P + M, D]."""

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        """Tokens: `encode` of all that `embed` gives."""


@attrs.frozen
class Model(Block):
    """images [B, C, H, W] -> head(pool(trunk(images))), without a head the features [B, D].

    Params are the trunk's and the pool's side by side, and the head's below "head", as in timm.
    """

    trunk: Trunk
    pool: Block
    head: Block | None = None
    head_drop: float = attrs.field(default=0.0, validator=is_rate)

    @property
    def is_random(self) -> bool:
        return self.trunk.is_random or self.head_drop > 0

    def init(self, key: Tensor) -> Params:
        """The parts' params; a part's numbers do not depend on the other parts."""
        params = {**self.trunk.init(fold_in(key, 0)), **self.pool.init(fold_in(key, 1))}
        return params if self.head is None else params | {"head": self.head.init(fold_in(key, 2))}

    def features(self, params: Params, images: Tensor, *, key: Tensor | None = None) -> Tensor:
        """images [B, C, H, W] -> pooled features [B, D]."""
        return self.pooled(params, self.trunk(params, images, key=key))

    def pooled(self, params: Params, tokens: Tensor) -> Tensor:
        """The trunk's tokens [B, P + N, D] -> [B, D]."""
        return self.pool(params, tokens)

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        x = self.features(params, x, key=key)
        if self.head is None:
            return x
        x = dropout(x, self.head_drop, key, place=1)  # place 0 is the trunk's pos_drop
        return self.head(part(params, "head"), x)
