"""A figure as two PNGs: for light pages, and for dark ones."""

import io
from collections.abc import Callable
from typing import Any

from blocks.report.parts import Absent

DPI = 144  # dots to an inch of a figure, for which a page has 96 pixels
LIGHT_GROUND, DARK_GROUND = "#ffffff", "#1b1f24"  # the cards of page.css
HOW: dict[str, Any] = {"format": "png", "dpi": DPI, "bbox_inches": "tight", "pad_inches": 0.05}  # no label is cut
INK, GRID = "#e4e7ea", "#3c434c"  # on the dark one
INKED = ("text.color", "axes.labelcolor", "axes.titlecolor", "axes.edgecolor", "xtick.color", "ytick.color")
DARK = dict.fromkeys(INKED, INK) | {"grid.color": GRID, "legend.facecolor": DARK_GROUND, "legend.edgecolor": GRID}


def light_and_dark(draw: Callable[[], Any]) -> tuple[bytes, bytes]:
    """PNGs of the matplotlib Figure that `draw` makes: it is drawn once with each style."""
    return _png(draw, LIGHT_GROUND, {}), _png(draw, DARK_GROUND, DARK)


def _png(draw: Callable[[], Any], ground: str, style: dict[str, Any]) -> bytes:
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise Absent("figures are drawn by matplotlib: pip install 'vitmason[recipes]'") from None
    file = io.BytesIO()
    settings: Any = {**style, "axes.facecolor": "none", "figure.facecolor": ground}
    with matplotlib.rc_context(settings):
        draw().savefig(file, **HOW, facecolor=ground)  # what is drawn late has the style too
    return file.getvalue()


def size(png: bytes) -> tuple[int, int]:
    """Width and height in dots, which the file's first chunk tells."""
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])
