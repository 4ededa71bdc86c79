"""Widths and counts of blocks."""

from numbers import Integral, Real
from typing import Any

import attrs


def is_size(_: object, attribute: attrs.Attribute, value: Any) -> None:
    """attrs validator of a width or a number of things: a whole number from 1 on."""
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < 1:
        raise ValueError(f"{attribute.name} {value!r} is not a size; use a whole number, 1 or more")


def is_above_0(_: object, attribute: attrs.Attribute, value: Any) -> None:
    """attrs validator of a finite number above 0."""
    if not isinstance(value, Real) or not 0 < float(value) < float("inf"):
        raise ValueError(f"{attribute.name} {value!r} is not above 0")


def one_of(*known: Any) -> Any:
    """attrs validator of a choice."""

    def check(_: object, attribute: attrs.Attribute, value: Any) -> None:
        if value not in known:
            raise ValueError(f"{attribute.name} {value!r} is not known; use {' or '.join(map(repr, known))}")

    return check
