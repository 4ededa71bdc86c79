"""DINO's head: a perceptron, rows of length 1, and weight-normed logits."""

from itertools import pairwise

import attrs
import torch.nn.functional as F
from torch import Tensor

from blocks.block import Block, Params
from blocks.layers.linear import Linear
from blocks.layers.weight_norm import WeightNormLinear, unit


@attrs.frozen
class DinoHead(Block):
    """features [..., D] -> logits [..., K] (Caron et al. 2021, appendix C), rows of whose last layer have length 1.

    With `norm_last_layer` off the rows' lengths are learned. K is 65,536 in the paper.
    """

    in_features: int
    out_features: int
    hidden_features: int = 2048
    bottleneck_features: int = 256
    depth: int = 3
    norm_last_layer: bool = True
    layers: tuple[Linear, ...] = attrs.field(init=False)
    last_layer: WeightNormLinear = attrs.field(init=False)

    @layers.default
    def _layers(self) -> tuple[Linear, ...]:
        if self.depth < 1:
            raise ValueError(f"depth {self.depth} leaves no layer before the bottleneck; use 1 or more")
        widths = (self.in_features, *[self.hidden_features] * (self.depth - 1), self.bottleneck_features)
        return tuple(Linear(a, b) for a, b in pairwise(widths))

    @last_layer.default
    def _last_layer(self) -> WeightNormLinear:
        return WeightNormLinear(self.bottleneck_features, self.out_features, learn_norm=not self.norm_last_layer)

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        return self.logits(params, self.bottleneck(params, x))

    def bottleneck(self, params: Params, x: Tensor) -> Tensor:
        """features [..., D] -> rows of length 1 [..., bottleneck_features]."""
        for i, layer in enumerate(self.layers):
            x = layer(params["layers"][str(i)], x if i == 0 else F.gelu(x))
        return unit(x)

    def logits(self, params: Params, z: Tensor) -> Tensor:
        """The bottleneck's rows [..., bottleneck_features] -> logits [..., K]."""
        return self.last_layer(params["last_layer"], z)
