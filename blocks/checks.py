"""What numbers and names may be, as every part asks for it; not-a-number and other types are never right.

Below the questions are validators of attrs, which raise ValueError with the field's name and its value.
"""

import math
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any

import attrs

Validator = Callable[[Any, attrs.Attribute, Any], None]


def is_within(value: Any, low: float, high: float = math.inf) -> bool:
    """Whether it is a finite number from low to high, ends included."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    return number and low <= float(value) <= high and math.isfinite(value)


def is_interval(value: Any, low: float, high: float = math.inf) -> bool:
    """Whether it is two such numbers, the larger one last."""
    two = isinstance(value, (tuple, list)) and len(value) == 2 and all(is_within(end, low, high) for end in value)
    return two and value[0] <= value[1]


def is_above_0(value: Any) -> bool:
    """Whether it is a finite number, more than 0."""
    return is_within(value, 0) and value != 0


def is_whole(value: Any, low: int) -> bool:
    """Whether it is a whole number from low on."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= low


def count(_: Any, field: attrs.Attribute, value: Any) -> None:
    """A whole number from 1 on."""
    if not is_whole(value, 1):
        raise ValueError(f"{field.name} {value!r} is not a count; use a whole number, 1 or more")


def count_or_none(_: Any, field: attrs.Attribute, value: Any) -> None:
    """A whole number from 0 on."""
    if not is_whole(value, 0):
        raise ValueError(f"{field.name} {value!r} is not a count; use a whole number, or 0 for none")


def above_0(_: Any, field: attrs.Attribute, value: Any) -> None:
    """A finite number, more than 0."""
    if not is_above_0(value):
        raise ValueError(f"{field.name} {value!r} is not above 0")


def not_negative(_: Any, field: attrs.Attribute, value: Any) -> None:
    """A finite number, 0 or more."""
    if not is_within(value, 0):
        raise ValueError(f"{field.name} {value!r} must not be negative; use a number from 0 on")


def one_of(choices: Iterable[Any]) -> Validator:
    """One of the known choices."""
    names = tuple(choices)

    def check(_: Any, field: attrs.Attribute, value: Any) -> None:
        if value not in names:
            raise ValueError(f"{field.name} {value!r} is not known; use one of {', '.join(map(str, names))}")

    return check
