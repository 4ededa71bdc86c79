"""Checks of the numbers that optimizers and objectives take, as validators of attrs; not-a-number is never right."""

from numbers import Real
from typing import Any

import attrs

from blocks.checks import is_within


def is_from_0(value: Any) -> bool:
    """Whether it is a number from 0 on; a schedule may have no upper end."""
    return isinstance(value, Real) and float(value) >= 0


def is_share(_: object, field: attrs.Attribute, value: float) -> None:
    """From 0 to below 1."""
    if not is_within(value, 0, 1) or value == 1:
        raise ValueError(f"{field.name} {value!r} is not in [0, 1)")


def are_betas(_: object, field: attrs.Attribute, value: tuple[float, float]) -> None:
    """Two shares."""
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not all(is_within(b, 0, 1) and b < 1 for b in value):
        raise ValueError(f"{field.name} {value!r} are not two numbers in [0, 1)")
