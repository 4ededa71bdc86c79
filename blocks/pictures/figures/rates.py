"""What many learning rates came to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from blocks.pictures.figures.sheet import SERIES, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def rates_figure(lrs: Sequence[float], loss: Tensor, top1: Tensor) -> Figure:
    """The last epoch's loss, and top-1 (0 to 1), over R learning rates, [R, seeds] each: a dot a run, a line the mean.

    Losses and accuracies that are not finite are left out.
    """
    figure, axes = panels(2, 1, 6.0, 3.0)
    for one, values, name in zip(axes, (loss, 100 * top1), ("training loss, last epoch", "val top-1, %"), strict=True):
        one.plot(lrs, values, "o", color=SERIES[0], alpha=0.4)
        one.plot(lrs, values.mean(1), color=SERIES[0])
        one.set(xscale="log", ylabel=name)
    axes[-1].set(xlabel="peak learning rate")
    return figure
