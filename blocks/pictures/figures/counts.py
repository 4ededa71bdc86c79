"""The confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from blocks.pictures.figures.sheet import panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WRITTEN = 20  # classes, up to which the numbers and names are written


def confusion_figure(counts: Tensor, classes: Sequence[str] | None = None) -> Figure:
    """`confusion` [classes, classes]: each row's shares as shades, and the counts themselves where they are legible.

    A row is a true class, a column what it was taken for. Raises ValueError for names of another number of classes.
    """
    number = len(counts)
    names = list(map(str, range(number))) if classes is None else [name[:16] for name in classes]
    if len(names) != number:
        raise ValueError(f"{len(names)} names for {number} classes; give one each, or none")
    side = min(8.0, 2.2 + 0.34 * number)
    figure, (axes,) = panels(1, 1, side + 0.8, side)
    shares = counts.double() / counts.sum(1, keepdim=True).clamp_min(1)
    drawn = axes.imshow(shares.numpy(), cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
    axes.grid(False)
    axes.set(xlabel="taken for", ylabel="true class")
    figure.colorbar(drawn, ax=axes, label="share of the true class", shrink=0.8)
    if number <= WRITTEN:
        _write(axes, counts, shares, names)
    return figure


def _write(axes, counts: Tensor, shares: Tensor, names: list[str]) -> None:
    upright = max(map(len, names)) > 3
    axes.set_xticks(range(len(names)), names, rotation=90 if upright else 0)
    axes.set_yticks(range(len(names)), names)
    for i, row in enumerate(counts.tolist()):
        for j, count in enumerate(row):
            if count:
                colour = "black" if shares[i, j] > 0.5 else "white"  # on cividis, whatever the page's ground
                axes.text(j, i, str(count), ha="center", va="center", color=colour, fontsize=7)
