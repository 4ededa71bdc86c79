"""What a report is made of: sections of drawings, tables and remarks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs


class Absent(Exception):
    """Why something is not in the report: a clause for its reader, "no validation images are at hand"."""


@attrs.frozen(eq=False)
class Drawing:
    """What makes a matplotlib Figure, under a heading, with one true sentence about it. `name` is the PNG's."""

    name: str
    title: str
    draw: Callable[[], Any]
    sentence: str


@attrs.frozen(eq=False)
class Image:
    """A drawing that is drawn: PNGs for light and for dark pages."""

    name: str
    title: str
    sentence: str
    light: bytes = attrs.field(repr=False)
    dark: bytes = attrs.field(repr=False)


@attrs.frozen(eq=False)
class Table:
    """Rows of cells, the first of which names its row; `columns` names cells, () for none; `folded` to its title."""

    title: str
    rows: Sequence[Sequence[Any]]
    columns: Sequence[str] = ()
    folded: bool = False


@attrs.frozen
class Remark:
    """A sentence or two; as a warning it is about the run."""

    text: str
    warning: bool = False


@attrs.frozen
class Missing:
    """What is not shown, by name, and why: a clause."""

    names: tuple[str, ...]
    why: str

    @property
    def text(self) -> str:
        """The same as sentences."""
        return f"Not shown: {', '.join(self.names)}. The reason: {self.why.rstrip('.')}."


Part = Drawing | Image | Table | Remark | Missing


@attrs.frozen(eq=False)
class Section:
    """Parts below a heading, and a sentence on what they have in common."""

    title: str
    intro: str
    parts: tuple[Part, ...]

    @property
    def anchor(self) -> str:
        """Its name in links."""
        return "-".join(self.title.lower().split())


def named(pairs: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The rows of a table of names and values; nested mappings get dotted names."""
    rows: list[tuple[str, Any]] = []
    for name, value in pairs.items():
        nested = named(value) if isinstance(value, Mapping) else []
        rows += [(f"{name}.{inner}", cell) for inner, cell in nested] or [(name, "(empty)" if value == "" else value)]
    return rows
