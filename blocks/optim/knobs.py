"""Checks of the numbers that optimizers take, as validators of attrs."""

import attrs


def not_negative(_: object, field: attrs.Attribute, value: float) -> None:
    """0 or more."""
    if value < 0:
        raise ValueError(f"{field.name} {value} must not be negative")


def is_positive(_: object, field: attrs.Attribute, value: float) -> None:
    """More than 0."""
    if not value > 0:
        raise ValueError(f"{field.name} {value} must be above 0")


def is_share(_: object, field: attrs.Attribute, value: float) -> None:
    """From 0 to below 1."""
    if not 0 <= value < 1:
        raise ValueError(f"{field.name} {value} is not in [0, 1)")


def are_betas(_: object, field: attrs.Attribute, value: tuple[float, float]) -> None:
    """Two shares."""
    if len(value) != 2 or not all(0 <= beta < 1 for beta in value):
        raise ValueError(f"{field.name} {value} are not two numbers in [0, 1)")
