"""Heads: features to logits or to an embedding."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal

import attrs
import torch.nn.functional as F
from attrs.validators import in_
from torch import Tensor

from blocks.block import Block, Params
from blocks.layers.batch_norm import BatchNorm
from blocks.layers.linear import Linear
from blocks.tree import Flat, unflatten

LinearHead = Linear  # features [B, D] -> logits [B, C]; std=0 is ViT's zero start
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}
LastNorm = Literal["batch", "batch without affine"] | None
NormCall = Callable[[str, BatchNorm, Params, Tensor], Tensor]


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
    """features [B, D] -> embedding [B, out_features] through depth - 1 hidden layers (MoCo v2, SimCLR).

    norm="batch" normalises what goes into an activation, `last_norm` the embedding, in groups of `group_size` samples.
    A layer before a norm has no bias, which the norm would take away; nor has the last one without `last_bias`, where
    an objective takes it away.
    """

    in_features: int
    hidden_features: int
    out_features: int
    depth: int = 2
    norm: Literal["batch"] | None = attrs.field(default=None, validator=in_((None, "batch")))
    last_norm: LastNorm = attrs.field(default=None, validator=in_((None, "batch", "batch without affine")))
    activation: Literal["relu", "gelu"] = attrs.field(default="relu", validator=in_(ACTIVATIONS))
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

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        return self._through(params, x, lambda name, norm, params, x: norm(params, x))

    def observed(self, params: Params, x: Tensor) -> tuple[Tensor, Flat]:
        """(the output, the moments [C] of its batch norms: "norms.0.running_mean" ...)."""
        found: Flat = {}

        def observe(name: str, norm: BatchNorm, params: Params, x: Tensor) -> Tensor:
            y, moments = norm.observed(params, x)
            found.update({f"{name}.{leaf}": value for leaf, value in moments.items()})
            return y

        return self._through(params, x, observe), found

    def running(self) -> Params:
        """The running moments of its batch norms before the first batch, {} without any."""
        norms = {f"norms.{i}": norm for i, norm in enumerate(self.norms)}
        norms |= {} if self.final_norm is None else {"final_norm": self.final_norm}
        return unflatten({f"{n}.{leaf}": value for n, norm in norms.items() for leaf, value in norm.running().items()})

    def _through(self, params: Params, x: Tensor, normalise: NormCall) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = layer(params["layers"][str(i)], x if i == 0 else ACTIVATIONS[self.activation](x))
            if i < len(self.norms):
                x = normalise(f"norms.{i}", self.norms[i], params["norms"][str(i)], x)
        if self.final_norm is not None:
            x = normalise("final_norm", self.final_norm, params.get("final_norm", {}), x)
        return x
