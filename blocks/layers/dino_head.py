"""DINO's head: a perceptron, rows of length 1, and weight-normed logits."""

from itertools import pairwise
from typing import Literal

import attrs
from torch import Tensor

from blocks.block import Block, Params
from blocks.checks import one_of
from blocks.layers.batch_norm import BatchNorm
from blocks.layers.linear import Linear
from blocks.layers.normed_head import NormCall, NormedHead, by_themselves
from blocks.layers.weight_norm import WeightNormLinear, unit


@attrs.frozen
class DinoHead(NormedHead, Block):
    """features [..., D] -> logits [..., K] (Caron et al. 2021, appendix C), rows of whose last layer have length 1.

    With `norm_last_layer` off the rows' lengths are learned. K is 65,536 in the paper. norm="batch", an option of its
    code, normalises what goes into a GELU; a layer before a norm has no bias, which the norm would take away.
    """

    in_features: int
    out_features: int
    hidden_features: int = 2048
    bottleneck_features: int = 256
    depth: int = 3
    norm_last_layer: bool = True
    norm: Literal["batch"] | None = attrs.field(default=None, validator=one_of((None, "batch")))
    layers: tuple[Linear, ...] = attrs.field(init=False)
    norms: tuple[BatchNorm, ...] = attrs.field(init=False)
    last_layer: WeightNormLinear = attrs.field(init=False)

    @layers.default
    def _layers(self) -> tuple[Linear, ...]:
        if self.depth < 1:
            raise ValueError(f"depth {self.depth} leaves no layer before the bottleneck; use 1 or more")
        widths = (self.in_features, *[self.hidden_features] * (self.depth - 1), self.bottleneck_features)
        hidden = 0 if self.norm is None else self.depth - 1
        return tuple(Linear(a, b, bias=i >= hidden) for i, (a, b) in enumerate(pairwise(widths)))

    @norms.default
    def _norms(self) -> tuple[BatchNorm, ...]:
        return () if self.norm is None else (BatchNorm(self.hidden_features),) * (self.depth - 1)

    @last_layer.default
    def _last_layer(self) -> WeightNormLinear:
        return WeightNormLinear(self.bottleneck_features, self.out_features, learn_norm=not self.norm_last_layer)

    def bottleneck(self, params: Params, x: Tensor) -> Tensor:
        """features [..., D] -> rows of length 1 [..., bottleneck_features]."""
        return unit(self._hidden(params, x, by_themselves, "gelu"))

    def logits(self, params: Params, z: Tensor) -> Tensor:
        """The bottleneck's rows [..., bottleneck_features] -> logits [..., K]."""
        return self.last_layer(params["last_layer"], z)

    def _through(self, params: Params, x: Tensor, normalise: NormCall) -> Tensor:
        return self.logits(params, unit(self._hidden(params, x, normalise, "gelu")))
