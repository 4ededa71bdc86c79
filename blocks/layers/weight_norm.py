"""Linear maps whose rows have a length of their own: weight-normed layers and prototypes."""

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from blocks.block import Block, Params
from blocks.checks import count
from blocks.random import normal


def unit(x: Tensor) -> Tensor:
    """x [..., E] with rows of length 1, their lengths taken in float32 at least; rows of zeros stay."""
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1).to(x.dtype)


@attrs.frozen
class WeightNormLinear(Block):
    """x [..., in_features] -> [..., out_features] by rows of length 1, or of learned length (Salimans & Kingma 2016).

    weight_v [out, in] holds the rows' directions; with `learn_norm`, weight_g [out, 1] their lengths.
    """

    in_features: int = attrs.field(validator=count)
    out_features: int = attrs.field(validator=count)
    learn_norm: bool = False

    def init(self, key: Tensor) -> Params:
        """weight_v normal with the variance of torch.nn.Linear's start, weight_g of ones."""
        shape = (self.out_features, self.in_features)
        weight = normal(key, shape).mul_((3 * self.in_features) ** -0.5)
        params = {"weight_v": weight}
        return params | {"weight_g": torch.ones_like(weight[:, :1])} if self.learn_norm else params

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        weight = unit(params["weight_v"])
        return F.linear(x, weight * params["weight_g"] if self.learn_norm else weight)


@attrs.frozen
class Prototypes(Block):
    """embeddings [..., E] -> scores [..., K] against K prototypes, which start with length 1 (SwAV)."""

    in_features: int = attrs.field(validator=count)
    num_prototypes: int = attrs.field(validator=count)

    def init(self, key: Tensor) -> Params:
        """weight [K, E], rows uniform on the sphere."""
        return {"weight": unit(normal(key, (self.num_prototypes, self.in_features)))}

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        return F.linear(x, params["weight"])
