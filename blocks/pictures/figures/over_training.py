"""ConViT's two figures: how gates and non-locality move in training (d'Ascoli et al. 2021, section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from blocks.pictures.figures.sheet import ink, panels, shades
from blocks.pictures.locality import distances

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Records = Sequence[Mapping[str, Any]]  # lines of a run's attention.jsonl: "epoch" and what `vitals` gives


def gates_figure(records: Records) -> Figure:
    """The share of position in each head over epochs, a panel a GPSA layer; the broad line is the mean of the heads.

    All panels have one scale, of a fifth of 0 to 1 at least. Raises ValueError for records without gates.
    """
    records = [record for record in records if record.get("gates")]
    if not records:
        raise ValueError("no record has gates, which GPSA layers alone have; give a ConViT's attention.jsonl")
    epochs, layers = [record["epoch"] for record in records], records[0]["gated_layers"]
    gates = torch.tensor([record["gates"] for record in records])  # [epochs, layers, h]
    columns = min(4, len(layers))
    figure, axes = panels(-(-len(layers) // columns), columns, 2.2, 2.0)
    for one, layer, heads in zip(axes, layers, gates.unbind(1), strict=False):
        one.plot(epochs, heads.mean(1), color=ink(), linewidth=5, alpha=0.3, solid_capstyle="butt", label="mean")
        for head, colour in enumerate(shades(gates.shape[2])):
            one.plot(epochs, heads[:, head], color=colour, linewidth=1.2, label=f"head {head}")
        one.set_ylim(_span(gates))
        one.set_title(f"blocks.{layer}", fontsize="small")
    _finish(figure, axes, len(layers), columns, "gate: share of position")
    lines, names = axes[0].get_legend_handles_labels()  # every panel's are the same
    figure.legend(lines, names, loc="outside lower center", ncols=min(6, len(names)), fontsize="small", frameon=False)
    return figure


def nonlocality_figure(records: Records) -> Figure:
    """How far each layer looks over epochs, the mean of its heads, in patches (left) and pixels (right).

    Beside GPSA layers plain attention is dashed; the dotted line is attention to all patches alike. Raises ValueError
    without records.
    """
    records = [record for record in records if record.get("nonlocality")]
    if not records:
        raise ValueError("no record has a non-locality; give the lines of a run's attention.jsonl")
    epochs, gated = [record["epoch"] for record in records], records[0]["gated_layers"]
    found = torch.tensor([record["nonlocality"] for record in records])  # [epochs, layers]
    layers = found.shape[1]
    figure, (axes,) = panels(1, 1, 6.5, max(3.8, 0.6 + 0.17 * layers))  # room for the legend
    for layer, colour in enumerate(shades(layers)):
        plain = bool(gated) and layer not in gated
        name = f"blocks.{layer}, no gate" if plain else f"blocks.{layer}"
        axes.plot(epochs, found[:, layer], "--" if plain else "-", color=colour, linewidth=1.6, label=name)
    everywhere(axes, tuple(records[0]["grid"]))
    axes.set(xlabel="epoch", ylabel="non-locality, patches", ylim=(0, None))
    in_pixels(axes, records[0]["patch_size"])
    figure.legend(loc="outside right upper", fontsize="small", frameon=False)
    return figure


def everywhere(axes: Axes, grid: tuple[int, int]) -> None:
    """The distance of attention to all patches of a grid alike, as a dotted line."""
    distance = float(distances(grid).mean())
    axes.axhline(distance, linestyle=":", linewidth=1.2, color=ink(), label="all patches alike")


def in_pixels(axes: Axes, patch_size: int) -> None:
    """A second scale at the right of one in patches."""

    def pixels(patches: Any) -> Any:
        return patches * patch_size

    def patches(pixels: Any) -> Any:
        return pixels / patch_size

    other = axes.secondary_yaxis("right", functions=(pixels, patches))
    other.set_ylabel("pixels")
    other.tick_params(labelsize="small")


def _span(gates: Tensor) -> tuple[float, float]:
    """The range of these shares and some room, within 0 to 1."""
    middle, reach = float(gates.max() + gates.min()) / 2, max(0.1, 0.55 * float(gates.max() - gates.min()))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def _finish(figure: Figure, axes: Sequence[Axes], used: int, columns: int, label: str) -> None:
    for place, one in enumerate(axes):
        one.set_visible(place < used)
        if place % columns:
            one.set_yticklabels([])
        if place + columns >= used:
            one.set_xlabel("epoch", fontsize="small")
    figure.supylabel(label, fontsize="small")
