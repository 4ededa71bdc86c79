"""Numbers within bounds, as the checks of every part ask for them; not-a-number and other types never are."""

import math
from numbers import Real
from typing import Any


def is_within(value: Any, low: float, high: float = math.inf) -> bool:
    """Whether it is a finite number from low to high, ends included."""
    return isinstance(value, Real) and low <= float(value) <= high and math.isfinite(value)


def is_interval(value: Any, low: float, high: float = math.inf) -> bool:
    """Whether it is two such numbers, the larger one last."""
    two = isinstance(value, (tuple, list)) and len(value) == 2 and all(is_within(end, low, high) for end in value)
    return two and value[0] <= value[1]
