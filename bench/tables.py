"""Results files, and the tables and pictures that pages make of them."""

import json
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
PICTURES = ROOT / "docs" / "pictures"


def rows(name: str) -> list[dict]:
    """The JSON lines of a results file; none where it is missing."""
    path = RESULTS / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    head = list(head)
    ruler = ["---"] * len(head)
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, ruler, *lines])


def measured_on(*names: str) -> str:
    """The machines and versions behind some results files."""
    return "".join(f"\n{where}\n" for where in sorted({row["hardware"] for name in names for row in rows(name)}))


def picture(words: str, path: Path, page: str = ".") -> str:
    """A picture in a page of this folder."""
    return f"![{words}]({path.relative_to(ROOT / page)})\n"


def spread(numbers: list[float]) -> str:
    return "{:.2f} ({:.2f} to {:.2f})".format(*numbers)
