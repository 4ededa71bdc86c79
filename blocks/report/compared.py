"""Several runs side by side: what was set differently, and what came of it."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from blocks.pictures.figures.curves import curves_figure
from blocks.report.material import Material
from blocks.report.numbers import shown
from blocks.report.outcome import last_value, metric_names
from blocks.report.parts import Drawing, Part, Remark, Table, named
from blocks.runs.run import Run

UNSET = "not a setting there"
ELSEWHERE = ("out",)  # differs always
IN_LEGEND = 4  # settings


def names(runs: Sequence[Run]) -> list[str]:
    """A short name for each run, all different: its folder's, with as many above it as that needs."""
    parts = [run.folder.resolve().parts for run in runs]
    for depth in range(1, max(map(len, parts)) + 1):
        found = ["/".join(part[-depth:]) for part in parts]
        if len(set(found)) == len(found):
            return found
    return [f"{name} ({number})" for number, name in enumerate(found, 1)]  # the same run twice


def different_settings(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """{setting: [its value in each run]} of those in which the runs differ."""
    flat = [dict(named(({"recipe": run.recipe} if run.recipe else {}) | dict(run.settings))) for run in runs]
    every = {name: [settings.get(name, UNSET) for settings in flat] for settings in flat for name in settings}
    return {name: values for name, values in every.items() if name not in ELSEWHERE and _differ(values)}


def curves(material: Material) -> Iterable[Part]:
    """Learning curves, of all runs in one figure."""
    runs = [material.run, *material.others]
    records = dict(zip(names(runs), (material.epochs, *(run.epochs for run in material.others)), strict=True))
    unlike = different_settings(runs)
    own = {name: {key: shown(values[i]) for key, values in unlike.items()} for i, name in enumerate(records)}
    few = own if len(unlike) <= IN_LEGEND else None  # the table has them all
    sentence = "Means over an epoch's training steps, dashed, and validation after the epoch, solid."
    yield Drawing("curves", "Learning curves", partial(curves_figure, records, few), sentence)


def settings(material: Material) -> Iterable[Part]:
    """The settings that differ."""
    runs = [material.run, *material.others]
    rows = [(name, *values) for name, values in different_settings(runs).items()]
    if rows:
        yield Table("Settings that differ", rows, ("setting", *names(runs)))
    else:
        yield Remark("The runs do not differ in any setting that they kept.")


def metrics(material: Material) -> Iterable[Part]:
    """Every metric of each run when it was last measured."""
    runs = [material.run, *material.others]
    rows: list[tuple[Any, ...]] = [("epochs", *(run.epochs[-1]["epoch"] if run.epochs else 0 for run in runs))]
    every = metric_names([record for run in runs for record in run.epochs])
    rows += [(name, *(last_value(run.epochs, name) for run in runs)) for name in every]
    yield Table("Metrics after the last epoch", rows, ("metric", *names(runs)))


def _differ(values: Sequence[Any]) -> bool:
    return any(value != values[0] for value in values)
