"""Lists of a tree's entries in words: layers that have the same are said at once."""

import re
from collections.abc import Iterable, Sequence

LAYER = re.compile(r"(?<=\.)\d+(?=\.)")
SHOWN = 8  # entries that a summary lists


def every(entries: Iterable[str]) -> str:
    """All of them: ["blocks.0.norm1.bias [8]", "blocks.1.norm1.bias [8]"] -> "blocks.{0..1}.norm1.bias [8]"."""
    return ", ".join(grouped(entries))


def some(entries: Iterable[str]) -> str:
    """The first `SHOWN`, and how many more there are."""
    found = grouped(entries)
    rest = len(found) - SHOWN
    return ", ".join(found[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def grouped(entries: Iterable[str]) -> list[str]:
    """Entries, those that differ in nothing but the first number between dots as one."""
    found: dict[tuple[str, str], list[int]] = {}
    for entry in entries:
        match = LAYER.search(entry)
        ends = (entry, "") if match is None else (entry[: match.start()], entry[match.end() :])
        found.setdefault(ends, []).extend([] if match is None else [int(match[0])])
    return [before + (_ranges(numbers) if numbers else "") + after for (before, after), numbers in found.items()]


def _ranges(numbers: Sequence[int]) -> str:
    """[0, 1, 2, 5] -> "{0..2,5}", [3] -> "3"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    said = [str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs]
    return said[0] if said == [str(numbers[0])] else "{" + ",".join(said) + "}"
