"""Heads: features to logits or to an embedding."""

from itertools import pairwise
from typing import Any, Literal

import attrs
from torch import Tensor

from blocks.block import Block, Params
from blocks.checks import one_of
from blocks.layers.batch_norm import BatchNorm
from blocks.layers.linear import Linear
from blocks.layers.normed_head import ACTIVATIONS, NormCall, NormedHead

LinearHead = Linear  # features [B, D] -> logits [B, C]; std=0 is ViT's zero start
LastNorm = Literal["batch", "batch without affine"] | None


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
class ProjectionMlp(NormedHead, Block):
    """features [B, D] -> embedding [B, out_features] through depth - 1 hidden layers (MoCo v2, SimCLR).

    norm="batch" normalises what goes into an activation, `last_norm` the embedding, in groups of `group_size` samples.
    A layer before a norm has no bias, which the norm would take away; nor has the last one without `last_bias`, where
    an objective takes it away.
    """

    in_features: int
    hidden_features: int
    out_features: int
    depth: int = 2
    norm: Literal["batch"] | None = attrs.field(default=None, validator=one_of((None, "batch")))
    last_norm: LastNorm = attrs.field(default=None, validator=one_of((None, "batch", "batch without affine")))
    activation: Literal["relu", "gelu"] = attrs.field(default="relu", validator=one_of(ACTIVATIONS))
    group_size: int | None = attrs.field(default=None)
    last_bias: bool = True
    layers: tuple[Linear, ...] = attrs.field(init=False)
    norms: tuple[BatchNorm, ...] = attrs.field(init=False)
    final_norm: BatchNorm | None = attrs.field(init=False)

    @group_size.validator
    def _group_size(self, _: Any, value: int | None) -> None:
        if value is not None and self.norm is None and self.last_norm is None:
            raise ValueError(
                f'group_size {value} is batch norm\'s, and there is none; give norm="batch" or a last_norm'
            )

    @layers.default
    def _layers(self) -> tuple[Linear, ...]:
        if self.depth < 1:
            raise ValueError(f"depth {self.depth} is no projection; use 1 (linear) or more")
        widths = (self.in_features, *[self.hidden_features] * (self.depth - 1), self.out_features)
        # the variance of torch.nn.Linear's start: .02 would shrink the signal layer by layer
        return tuple(Linear(a, b, self._has_bias(i), (3 * a) ** -0.5) for i, (a, b) in enumerate(pairwise(widths)))

    def _has_bias(self, i: int) -> bool:
        return self.norm is None if i < self.depth - 1 else self.last_bias and self.last_norm is None

    @norms.default
    def _norms(self) -> tuple[BatchNorm, ...]:
        hidden = 0 if self.norm is None else self.depth - 1
        return (BatchNorm(self.hidden_features, group_size=self.group_size),) * hidden

    @final_norm.default
    def _final_norm(self) -> BatchNorm | None:
        if self.last_norm is None:
            return None
        return BatchNorm(self.out_features, affine=self.last_norm == "batch", group_size=self.group_size)

    def _through(self, params: Params, x: Tensor, normalise: NormCall) -> Tensor:
        x = self._hidden(params, x, normalise, self.activation)
        if self.final_norm is not None:
            x = normalise("final_norm", self.final_norm, params.get("final_norm", {}), x)
        return x
