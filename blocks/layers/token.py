"""Learned tokens: the class token, registers, and the one that stands for masked patches."""

import attrs
import torch
from torch import Tensor

from blocks.block import Block, Params
from blocks.checks import count
from blocks.random import normal


@attrs.frozen
class ClassToken(Block):
    """tokens [B, N, D] -> [B, 1 + N, D], a learned token first. Its params are the tensor [1, 1, D] itself."""

    embed_dim: int = attrs.field(validator=count)
    std: float = 0.02

    def init(self, key: Tensor) -> Params:
        """[1, 1, D]."""
        return normal(key, (1, 1, self.embed_dim)).mul_(self.std)

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        return torch.cat((params.expand(x.shape[0], -1, -1), x), dim=1)


@attrs.frozen
class RegisterTokens(Block):
    """tokens [B, N, D] -> [B, R + N, D], R learned tokens first. Its params are the tensor [1, R, D] itself.

    They keep what concerns the whole image, for which patches would serve otherwise (Darcet et al. 2024, section 2.2).
    """

    embed_dim: int = attrs.field(validator=count)
    num_tokens: int = attrs.field(validator=count)
    std: float = 1e-6  # timm's

    def init(self, key: Tensor) -> Params:
        """[1, R, D]."""
        return normal(key, (1, self.num_tokens, self.embed_dim)).mul_(self.std)

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        return torch.cat((params.expand(x.shape[0], -1, -1), x), dim=1)


@attrs.frozen
class MaskToken(Block):
    """Tokens [B, M, D] at the places `keep`, int64 [B, M], of N = `num_tokens`, a learned token elsewhere: [B, N, D].

    Its params are the tensor [1, 1, D] itself. Without places the tokens are all there are (MAE, He et al. 2022).
    """

    embed_dim: int = attrs.field(validator=count)
    std: float = 0.02

    def init(self, key: Tensor) -> Params:
        """[1, 1, D]."""
        return normal(key, (1, 1, self.embed_dim)).mul_(self.std)

    def __call__(
        self, params: Params, x: Tensor, *, keep: Tensor | None = None, num_tokens: int = 0, key: Tensor | None = None
    ) -> Tensor:
        if keep is None:
            return x
        tokens = params.to(x.dtype).expand(x.shape[0], num_tokens, -1)
        return tokens.scatter(1, keep[..., None].expand_as(x), x)
