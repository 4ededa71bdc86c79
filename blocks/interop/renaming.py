"""Names of leaves by a table of patterns, which are applied one after another."""

import re

Table = tuple[tuple[re.Pattern[str], str], ...]


def table(*pairs: tuple[str, str]) -> Table:
    """Pairs of a pattern and what takes its place."""
    return tuple((re.compile(theirs), ours) for theirs, ours in pairs)


def renamed(name: str, names: Table) -> str:
    """The name after all of a table."""
    for pattern, new in names:
        name = pattern.sub(new, name)
    return name
