"""Params that sleep through the first updates of an optimizer, and begin then as in their first."""

from collections.abc import Mapping

from torch import Tensor

Wakes = tuple[tuple[str, int], ...]  # (name pattern, updates that it sleeps through)


def as_wakes(wake: Mapping[str, int] | Wakes | None) -> Wakes:
    """{name pattern: updates} as a tuple, that it may be hashed. Raises ValueError for what is no number of updates."""
    pairs = tuple(wake.items()) if isinstance(wake, Mapping) else wake or ()
    for pattern, updates in pairs:
        if updates < 0 or updates != int(updates):
            raise ValueError(f"wake has {pattern!r}: {updates}, which is not a number of updates; 0 is awake at once")
    return tuple((pattern, int(updates)) for pattern, updates in pairs)


def number_of(count: Tensor, wake: int) -> Tensor:
    """Which of its own updates it is for leaves that slept through the first `wake` of `count`: from 1 on."""
    return (count + (1 - wake)).clamp_(min=1) if wake else count + 1


def asleep(skip: Tensor | None, count: Tensor, wake: int) -> Tensor | None:
    """Whether leaves do not move in this update, for they sleep or it is skipped: bool []."""
    if not wake:
        return skip
    return count < wake if skip is None else skip | (count < wake)
