"""Class names that several data sets have in common, or a data set and a model."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

Classes = tuple[str, ...] | None
LISTED = 5  # names in an error


def common_classes(sets: Iterable[tuple[str, Classes]]) -> Classes:
    """The names of those sets, each with what messages call it, that have some. Raises ValueError where they differ."""
    known = [(name, classes) for name, classes in sets if classes]
    for name, classes in known[1:]:
        first, wanted = known[0]
        if classes != wanted:
            raise ValueError(
                f"{first} and {name} have different classes ({_difference(wanted, classes)}); write their shards with "
                "the same class names in the same order: a class folder may be empty, and a list may have numbers for "
                "names"
            )
    return known[0][1] if known else None


def _difference(mine: tuple[str, ...], others: tuple[str, ...]) -> str:
    at = next((i for i, (a, b) in enumerate(zip(mine, others, strict=False)) if a != b), None)
    return f"{len(mine)} and {len(others)} of them" if at is None else f"{at} is {mine[at]!r} and {others[at]!r}"


def renumbering(classes: tuple[str, ...], wanted: tuple[str, ...], labels: np.ndarray) -> np.ndarray:
    """The number among the wanted names of each class, int64 [C], -1 where it has none. Raises ValueError where labels
    [n] of that class are there, or where a name of theirs stands for several classes.
    """
    counts = np.bincount(labels, minlength=len(classes))
    used = [name for name, count in zip(classes, counts, strict=True) if count]
    times = Counter(classes), Counter(wanted)
    for name in used:
        if max(one[name] for one in times) > 1:
            raise ValueError(f"{name} is the name of several classes, so that another order is not known; rename them")
    numbers = {name: number for number, name in enumerate(wanted)}
    unknown = [name for name in used if name not in numbers]
    renumbered = np.array([numbers.get(name, -1) for name in classes], np.int64)
    if unknown:
        raise ValueError(
            f"{counts[renumbered < 0].sum()} of {len(labels)} samples are of the class{'es' * (len(unknown) > 1)} "
            f"{_some(unknown)}, none of the {len(wanted)} that are wanted ({_some(wanted)}); give shards of these "
            "alone, in Python index.take(...)"
        )
    return renumbered


def refuse_above(labels: np.ndarray, wanted: tuple[str, ...]) -> None:
    """Raises ValueError for a label [n] that is no number of a wanted name."""
    if labels.max() >= len(wanted):
        raise ValueError(
            f"labels go to {labels.max()} and have no names, and {len(wanted)} classes are wanted ({_some(wanted)}); "
            "give shards of these alone"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
