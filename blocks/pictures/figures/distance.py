"""How far each head of each layer looks (after Dosovitskiy et al. 2021, figure 7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from blocks.pictures.figures.over_training import everywhere, in_pixels
from blocks.pictures.figures.sheet import panels, series

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def distance_figure(found: Mapping[str, Tensor], grid: tuple[int, int], patch_size: int) -> Figure:
    """`attention_distance` [layers, h] of one or several params, by name ("before training"): a dot a head.

    Lines join the means of heads; the dotted line is attention to all patches alike. In patches (left) and pixels.
    Raises ValueError for nothing to draw.
    """
    if not found:
        raise ValueError("no distances to draw; give {name: attention_distance(model, params, images)}")
    figure, (axes,) = panels(1, 1, 6.5, 3.8)
    for place, ((name, each), colour) in enumerate(zip(found.items(), series(len(found)), strict=True)):
        aside = 0.16 * (place - (len(found) - 1) / 2)  # dots of one layer stand beside each other
        layers, heads = [layer + aside for layer in range(len(each))], each.cpu()
        axes.plot(layers, heads.mean(1), color=colour, linewidth=1.4, label=name)
        axes.plot(layers, heads, "o", color=colour, markersize=4, alpha=0.6)
    everywhere(axes, grid)
    axes.set(xlabel="layer", ylabel="mean attention distance, patches", ylim=(0, None))
    axes.set_xticks(range(max(map(len, found.values()))))
    in_pixels(axes, patch_size)
    figure.legend(loc="outside upper center", ncols=len(found) + 1, fontsize="small", frameon=False)
    return figure
