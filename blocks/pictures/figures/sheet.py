"""An empty figure, and the colours that things have in all figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 9.0  # inches, at most
# Told apart with any colour vision, on light and on dark grounds (Okabe and Ito 2008, without black and yellow).
SERIES = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9")
STYLES = ("-", "--", ":", "-.")
MARK = "#d55e00"  # the frame of a query, on a picture or on `heat`
HEAT = "viridis"  # of amounts, dark for nothing


def sheet(width: float, height: float) -> Figure:
    """A figure of so many inches. Raises ModuleNotFoundError, with the way out, where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ModuleNotFoundError("figures are drawn by matplotlib: pip install 'vitmason[recipes]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def panels(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of equal axes, row by row; width and height, inches, are one's own with its labels."""
    figure = sheet(min(columns * width, WIDTH), rows * height)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(alpha=0.25, linewidth=0.6)
        one.tick_params(labelsize="small")
    return figure, axes


def shades(count: int) -> list[Any]:
    """Colours in order, for layers by depth and heads by number, without the ends that vanish on some ground."""
    import matplotlib

    return list(matplotlib.colormaps[HEAT](np.linspace(0.22, 0.85, count)))


def series(count: int) -> list[str]:
    """Colours that have no order, for runs; they come again after six."""
    return [SERIES[i % len(SERIES)] for i in range(count)]


def ink() -> Any:
    """The colour of text, for lines that are no series."""
    import matplotlib

    return matplotlib.rcParams["text.color"]
