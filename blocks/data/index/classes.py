"""Class names that several data sets have in common."""

from collections.abc import Iterable

Classes = tuple[str, ...] | None


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
