"""Temperatures that logits are divided by."""

import attrs

from blocks.checks import is_above_0
from blocks.optim.schedule import Schedule, ends


def is_temperature(_: object, attribute: attrs.Attribute, value: float) -> None:
    """attrs validator of a temperature that is a number."""
    if not is_above_0(value):
        raise ValueError(f"{attribute.name} {value!r} is not a temperature; use a number above 0")


def is_temperature_or_schedule(_: object, attribute: attrs.Attribute, value: float | Schedule) -> None:
    """attrs validator of a temperature, a number or a schedule."""
    for end in ends(value):
        if not is_above_0(end):
            raise ValueError(f"{attribute.name} {value!r} is not a temperature; use a number above 0, at both ends")
