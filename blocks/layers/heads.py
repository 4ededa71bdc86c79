"""Heads: features to logits or to an embedding."""

from itertools import pairwise

import attrs
from torch import Tensor
from torch.nn.functional import relu

from blocks.block import Block, Params
from blocks.layers.linear import Linear

LinearHead = Linear  # features [B, D] -> logits [B, C]; std=0 is ViT's zero start


@attrs.frozen
class TanhMlpHead(Block):
    """features [B, D] -> logits [B, C] through `hidden_features` tanh units (Dosovitskiy et al. 2021, section 3.1)."""

    in_features: int
    hidden_features: int
    num_classes: int
    fc1: Linear = attrs.field(init=False)
    fc2: Linear = attrs.field(init=False)

    @fc1.default
    def _fc1(self) -> Linear:
        return Linear(self.in_features, self.hidden_features, std=self.in_features**-0.5)  # LeCun normal

    @fc2.default
    def _fc2(self) -> Linear:
        return Linear(self.hidden_features, self.num_classes)

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        return self.fc2(params["fc2"], self.fc1(params["fc1"], x).tanh())


@attrs.frozen
class ProjectionMlp(Block):
    """features [B, D] -> embedding [B, out_features] through depth - 1 hidden layers of ReLUs (MoCo v2, SimCLR)."""

    in_features: int
    hidden_features: int
    out_features: int
    depth: int = 2
    layers: tuple[Linear, ...] = attrs.field(init=False)

    @layers.default
    def _layers(self) -> tuple[Linear, ...]:
        if self.depth < 1:
            raise ValueError(f"depth {self.depth} is no projection; use 1 (linear) or more")
        widths = (self.in_features, *[self.hidden_features] * (self.depth - 1), self.out_features)
        # the variance of torch.nn.Linear's start: .02 would shrink the signal layer by layer
        return tuple(Linear(a, b, std=(3 * a) ** -0.5) for a, b in pairwise(widths))

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = layer(params["layers"][str(i)], x if i == 0 else relu(x))
        return x
