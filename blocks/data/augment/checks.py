"""What the fields of transforms, policies and loaders may be; not-a-number and other types are never right."""

import math

from blocks.checks import is_interval, is_whole, is_within


def share(_, attribute, value) -> None:
    if not is_within(value, 0, 1):
        raise ValueError(f"{attribute.name} {value!r} is not between 0 and 1")


def crop_share(_, attribute, value) -> None:
    if not is_within(value, 0, 1) or value == 0:
        raise ValueError(f"{attribute.name} {value!r} is not above 0 and at most 1")


def at_least(low: float):
    def check(_, attribute, value) -> None:
        if not is_within(value, low):
            raise ValueError(f"{attribute.name} {value!r} is not at least {low}")

    return check


def deviation(_, attribute, value) -> None:
    """From 0 on, also without end."""
    if not (is_within(value, 0) or value == math.inf):
        raise ValueError(f"{attribute.name} {value!r} is not at least 0")


def interval(low: float, high: float):
    def check(_, attribute, value) -> None:
        if not is_interval(value, low, high):
            raise ValueError(f"{attribute.name} {value!r} is not an interval within {low} to {high}")

    return check


def pixels(_, attribute, value) -> None:
    if not is_whole(value, 1):
        raise ValueError(f"{attribute.name} {value!r} is not a number of pixels")


def picture_size(_, attribute, value) -> None:
    """A number of pixels, or (height, width)."""
    sides = value if isinstance(value, tuple) else (value, value)
    if len(sides) != 2 or not all(is_whole(side, 1) for side in sides):
        raise ValueError(f"{attribute.name} {value!r} is not a number of pixels, nor two: (height, width)")
