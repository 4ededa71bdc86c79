"""What is dropped at random in training: entries (dropout) and residual branches (drop path).

A mask is a function of the sample's key alone, so it is the same wherever and with whomever the sample is computed.
"""

from numbers import Real
from typing import Any

import attrs
import torch
from torch import Tensor

from blocks.block import Block, Params
from blocks.ops.dropout import keyed_dropout
from blocks.ops.numbers import numbers_on
from blocks.random import per_sample, uniform


def is_rate(_: Any, attribute: attrs.Attribute, value: float) -> None:
    """attrs validator of a drop rate."""
    if not isinstance(value, Real) or not 0 <= float(value) < 1:
        raise ValueError(f"{attribute.name} {value!r} is not a drop rate; use 0 <= {attribute.name} < 1")


def dropout(x: Tensor, rate: float, key: Tensor | None, place: int = 0) -> Tensor:
    """x [B, ...] with entries zeroed at `rate` and the others divided by 1 - rate; x itself without a key.

    `place` tells apart the dropouts that share one key. Srivastava et al. 2014.
    """
    if key is None or rate == 0:
        return x
    return keyed_dropout(x, per_sample(key, x.shape[0]), rate, place)


def drop_path_scales(
    key: Tensor, rates: tuple[float, ...], batch_size: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Factors of the residual branches, two a layer, 0 or 1 / (1 - rate): key [2] or [B, 2], rates (L) -> [L, 2, B].

    One draw serves all layers, and a layer's factors do not depend on how many follow. Huang et al. 2016.
    """
    numbers = uniform(per_sample(key, batch_size), (len(rates), 2))  # [B, L, 2]
    keep = 1 - numbers_on(key.device, rates)[:, None, None]
    return ((numbers.permute(1, 2, 0) < keep) / keep).to(dtype)


@attrs.frozen
class Dropout(Block):
    """x [B, ...] -> [B, ...] with entries dropped at `rate`, given a key."""

    rate: float = attrs.field(validator=is_rate)

    @property
    def is_random(self) -> bool:
        return self.rate > 0

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        return dropout(x, self.rate, key)


@attrs.frozen
class DropPath(Block):
    """x [B, ...] -> [B, ...] with whole samples dropped at `rate`, given a key: for a branch outside encoder layers."""

    rate: float = attrs.field(validator=is_rate)

    @property
    def is_random(self) -> bool:
        return self.rate > 0

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        if key is None or self.rate == 0:
            return x
        scales = drop_path_scales(key, (self.rate,), x.shape[0], x.dtype)[0, 0]
        return x * scales.view(-1, *(1,) * (x.ndim - 1))
