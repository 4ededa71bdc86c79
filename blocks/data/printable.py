"""Names that others chose, for the screen and for logs."""

from typing import Any


def printable(text: Any) -> str:
    """Text that moves no cursor and fits any terminal: names come from a tar, which may say anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(text))
