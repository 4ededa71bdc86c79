"""Distillation through attention: a token that learns from a teacher, beside the class token (Touvron et al. 2021)."""

import attrs
from torch import Tensor

from blocks.block import Block, Params
from blocks.layers.drop import dropout, is_rate
from blocks.layers.pool import TokenPool
from blocks.layers.token import ClassToken
from blocks.random import fold_in
from blocks.trunks.model import Model, Trunk
from blocks.trunks.parts import Parts


@attrs.frozen
class DistilledModel(Block):
    """images [B, C, H, W] -> mean of the class and the distillation head's logits [B, classes] (DeiT, section 4).

    The mean is its code's; the paper adds the heads' softmaxes. `logits` gives both, for training. Without heads it
    gives the features. Params are the trunk's, and the heads' below "head" and "head_dist", as in timm.
    """

    trunk: Trunk
    head: Block | None = None
    head_dist: Block | None = None
    head_drop: float = attrs.field(default=0.0, validator=is_rate)

    @property
    def is_random(self) -> bool:
        return self.trunk.is_random or self.head_drop > 0

    def init(self, key: Tensor) -> Params:
        """The parts' params; trunk and head start as those of a `Model` with this key."""
        params = self.trunk.init(fold_in(key, 0))
        heads = {"head": (2, self.head), "head_dist": (3, self.head_dist)}
        return params | {name: head.init(fold_in(key, place)) for name, (place, head) in heads.items() if head}

    def features(self, params: Params, images: Tensor, *, key: Tensor | None = None) -> Tensor:
        """images [B, C, H, W] -> the mean of the two tokens [B, D]."""
        return self.pooled(params, self.trunk(params, images, key=key))

    def pooled(self, params: Params, tokens: Tensor) -> Tensor:
        """The trunk's tokens [B, P + N, D] -> [B, D]."""
        return tokens[:, :2].clone().mean(1)  # a view would keep all tokens for the backward pass

    def logits(self, params: Params, images: Tensor, *, key: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """images [B, C, H, W] -> the class head's and the distillation head's logits, [B, classes] each."""
        tokens = dropout(self._tokens(params, images, key), self.head_drop, key, place=1)  # as in Model
        x, y = tokens.unbind(1)
        x = x if self.head is None else self.head(params["head"], x)
        return x, y if self.head_dist is None else self.head_dist(params["head_dist"], y)

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        x, y = self.logits(params, x, key=key)
        return (x + y) / 2

    def _tokens(self, params: Params, images: Tensor, key: Tensor | None) -> Tensor:
        return self.trunk(params, images, key=key)[:, :2].clone()  # a view would keep all tokens for the backward pass


def distilled(model: Model) -> DistilledModel:
    """The model with a distillation token next to its class token, and a second head like its own.

    In a ViT the token has a position of its own. Raises ValueError for a model that does not pool a class token.
    """
    if isinstance(model, DistilledModel):
        raise ValueError("the model has a distillation token already; use it as it is")
    trunk = model.trunk
    if not isinstance(trunk, Parts) or not isinstance(model.pool, TokenPool) or trunk.dist_token is not None:
        raise ValueError(
            f"a {type(trunk).__name__} under a {type(model.pool).__name__} cannot be given a distillation token; "
            'make the model with vit or convit and global_pool="token"'
        )
    position = trunk.pos_embed
    if position is not None and position.num_prefix_tokens:  # ConViT's holds patches alone
        position = attrs.evolve(position, num_prefix_tokens=position.num_prefix_tokens + 1)
    trunk = attrs.evolve(trunk, dist_token=ClassToken(trunk.embed_dim), pos_embed=position)
    return DistilledModel(trunk, model.head, model.head, model.head_drop)
