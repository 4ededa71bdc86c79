"""Learning curves of one or several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from blocks.pictures.figures.sheet import ink, panels, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = Mapping[str, Any]  # an epoch's line of metrics.jsonl: "epoch", "train_loss", "val_top1" ...
SPLITS: dict[str, tuple[Any, str]] = {
    "train_": ("--", "training"),
    "val_": ("-", "validation"),
    "ema_": (":", "validation of the weights' average"),
    "teacher_": ("-.", "validation of the teacher"),
}
COUNTS = ("images", "unreadable")  # say nothing of learning
SHARES = ("top1", "top5", "knn")  # what the names of shares hold


def curves_figure(
    runs: Mapping[str, Sequence[Record]],
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    quantities: Sequence[str] | None = None,
) -> Figure:
    """Records by run's name: a panel a quantity ("loss", "top1" ...), dashed in training, solid in validation.

    Validation of the weights' average is dotted, of a teacher dash-dotted. A colour a run; with `settings` by the runs'
    names the legend says in which they differ. Quantities are by default all that some run has. Epochs' records are
    drawn, steps' left out. Raises ValueError where there is nothing to draw.
    """
    epochs = {name: [r for r in records if r.get("kind", "epoch") == "epoch"] for name, records in runs.items()}
    chosen = _found(epochs) if quantities is None else list(quantities)
    if not chosen:
        raise ValueError(f"no epoch of the runs {list(runs)} has a quantity to draw; give records of whole epochs")
    columns = 2 if len(chosen) == 4 else min(3, len(chosen))
    figure, axes = panels(-(-len(chosen) // columns), columns, 3.0, 2.4)
    for one, quantity in zip(axes, chosen, strict=False):
        for records, colour in zip(epochs.values(), series(len(runs)), strict=True):
            _draw(one, records, quantity, colour)
        _name(one, quantity)
    for one in axes[len(chosen) :]:
        one.set_visible(False)
    _legend(figure, list(runs), differing(settings or {}))
    return figure


def differing(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of settings by run those in which some runs differ, by run; a setting that a run lacks is left out there."""
    runs = list(settings.values())
    names = dict.fromkeys(name for one in runs for name in one)
    unlike = [name for name in names if any(one.get(name, ...) != runs[0].get(name, ...) for one in runs)]
    return {run: {name: one[name] for name in unlike if name in one} for run, one in settings.items()}


def _found(runs: Mapping[str, Sequence[Record]]) -> list[str]:
    """Quantities that a run measured in training or validation, loss and top-1 first."""
    keys = [key for records in runs.values() for record in records for key in record]
    names = [key.removeprefix(split) for key in keys for split in SPLITS if key.startswith(split)]
    first = [name for name in ("loss", "top1") if name in names]
    return list(dict.fromkeys(name for name in first + names if name not in COUNTS))


def _draw(axes: Axes, records: Sequence[Record], quantity: str, colour: str) -> None:
    for split, (style, _) in SPLITS.items():
        points = [(r["epoch"], r[split + quantity]) for r in records if r.get(split + quantity) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), style, color=colour, marker="." if len(points) == 1 else None)


def _name(axes: Axes, quantity: str) -> None:
    from matplotlib.ticker import PercentFormatter

    axes.set_title(quantity, fontsize="small")
    axes.set_xlabel("epoch", fontsize="small")
    if any(name in quantity for name in SHARES):
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))  # with the digits that its numbers need


def _legend(figure: Figure, runs: Sequence[str], settings: Mapping[str, Mapping[str, Any]]) -> None:
    """What colours and dashes mean; a run's name with the settings of its own."""
    from matplotlib.lines import Line2D

    used = {line.get_linestyle() for one in figure.axes for line in one.lines}
    styles = [(style, name) for style, name in SPLITS.values() if style in used]
    lines = [Line2D([], [], color=ink(), linestyle=style, label=name) for style, name in styles]
    for run, colour in zip(runs, series(len(runs)), strict=True):
        own = ", ".join(f"{name} {value}" for name, value in settings.get(run, {}).items())
        lines.append(Line2D([], [], color=colour, linewidth=3, label=f"{run}: {own}" if own else run))
    figure.legend(handles=lines, loc="outside lower left", fontsize="small", frameon=False)
