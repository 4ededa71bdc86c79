"""Checks of the numbers that optimizers and objectives take, as validators of attrs; not-a-number is never right."""

from numbers import Real
from typing import Any

import attrs

from blocks.bounds import is_within


def is_from_0(value: Any) -> bool:
    """Whether it is a number from 0 on; a schedule may have no upper end."""
    return isinstance(value, Real) and float(value) >= 0


def not_negative(_: object, field: attrs.Attribute, value: float) -> None:
    """0 or more."""
    if not is_within(value, 0):
        raise ValueError(f"{field.name} {value!r} must not be negative; use a number from 0 on")


def is_positive(_: object, field: attrs.Attribute, value: float) -> None:
    """More than 0."""
    if not is_within(value, 0) or value == 0:
        raise ValueError(f"{field.name} {value!r} must be above 0")


def is_share(_: object, field: attrs.Attribute, value: float) -> None:
    """From 0 to below 1."""
    if not is_within(value, 0, 1) or value == 1:
        raise ValueError(f"{field.name} {value!r} is not in [0, 1)")


def are_betas(_: object, field: attrs.Attribute, value: tuple[float, float]) -> None:
    """Two shares."""
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not all(is_within(b, 0, 1) and b < 1 for b in value):
        raise ValueError(f"{field.name} {value!r} are not two numbers in [0, 1)")


def is_count(_: object, field: attrs.Attribute, value: int) -> None:
    """A whole number from 1 on."""
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{field.name} {value!r} is not a count; use 1 or more")


def is_count_or_none(_: object, field: attrs.Attribute, value: int) -> None:
    """A whole number from 0 on."""
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{field.name} {value!r} is not a count; use 1 or more, or 0 for none")
