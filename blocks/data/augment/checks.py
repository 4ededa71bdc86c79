"""What the fields of transforms and policies may be."""

from collections.abc import Iterable


def share(_, attribute, value) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{attribute.name} {value} is not between 0 and 1")


def crop_share(_, attribute, value) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"{attribute.name} {value} is not above 0 and at most 1")


def at_least(low: float):
    def check(_, attribute, value) -> None:
        if not value >= low:
            raise ValueError(f"{attribute.name} {value} is not at least {low}")

    return check


def interval(low: float, high: float):
    def check(_, attribute, value) -> None:
        if not low <= value[0] <= value[1] <= high:
            raise ValueError(f"{attribute.name} {value} is not an interval within {low} to {high}")

    return check


def one_of(names: Iterable[str]):
    def check(_, attribute, value) -> None:
        if value not in names:
            raise ValueError(f"{attribute.name} {value!r} is not known; use one of {', '.join(names)}")

    return check


def pixels(_, attribute, value) -> None:
    if value < 1:
        raise ValueError(f"{attribute.name} {value} is not a number of pixels")


def picture_size(_, attribute, value) -> None:
    """A number of pixels, or (height, width)."""
    sides = value if isinstance(value, tuple) else (value, value)
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(f"{attribute.name} {value} is not a number of pixels, nor two: (height, width)")
