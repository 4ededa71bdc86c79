"""What came out of a run: its metrics in a table, and what a reader should be warned of."""

from collections.abc import Sequence
from typing import Any

from blocks.report.numbers import counted, duration, is_accuracy, metric
from blocks.report.parts import Remark, Table
from blocks.runs.records import waiting_share

Record = dict[str, Any]
NOT_METRICS: tuple[str, ...] = (
    "kind",
    "step",
    "epoch",
    "lr",
    "images",
    "seconds",
    "images_per_second",
    "evaluation_seconds",
    "waited_seconds",
)
NOT_METRICS += ("val_images", "ema_images", "teacher_images")
FIRST = ("val_top1", "ema_top1", "teacher_top1", "val_top5", "ema_top5", "val_loss")  # of a table
SCORES = ("val_top1", "val_knn", "teacher_knn")  # the beginnings of what a run is judged by, the first that is there


def epochs_of(records: Sequence[Record]) -> list[Record]:
    """The records of whole epochs."""
    return [record for record in records if record.get("kind") == "epoch"]


def metrics_table(epochs: Sequence[Record]) -> Table:
    """Every metric when it was last measured, and the best value of those of which the best is known."""
    rows = [(name, last_value(epochs, name), *_best(epochs, name)) for name in metric_names(epochs)]
    return Table(f"Metrics after epoch {epochs[-1]['epoch']}", rows, ("metric", "last", "best", "in epoch"))


def metric_names(records: Sequence[Record]) -> list[str]:
    """What the records measure: accuracies on validation images first, then as logged."""
    names = {name: None for r in records for name in r if name not in NOT_METRICS and _is_number(r[name])}
    first = [name for start in FIRST for name in names if name == start]
    return first + sorted((name for name in names if name not in first), key=lambda n: n.startswith("train_"))


def score_name(epochs: Sequence[Record]) -> str | None:
    """The metric that a run is judged by: the accuracy on validation images, if some epoch has one."""
    names = [name for record in reversed(epochs) for name in record]
    return next((name for start in SCORES for name in names if name.startswith(start)), None)


def last(epochs: Sequence[Record], name: str) -> Record | None:
    """The newest epoch that measured it; not every epoch is evaluated."""
    return next((record for record in reversed(epochs) if name in record), None)


def last_value(epochs: Sequence[Record], name: str) -> str:
    """A metric's last value, with its epoch where that is not the newest."""
    record = last(epochs, name)
    if record is None:
        return "not measured"
    value = metric(name, record[name])
    return value if record is epochs[-1] else f"{value} (epoch {record['epoch']})"


def best(epochs: Sequence[Record], name: str) -> Record | None:
    """The epoch with the highest accuracy or the lowest loss, the earliest of equal ones; None for other metrics."""
    scored = [record for record in epochs if record.get(name) is not None]
    if not scored or not (is_accuracy(name) or name.endswith("loss")):
        return None
    return max(scored, key=lambda r: r[name]) if is_accuracy(name) else min(scored, key=lambda r: r[name])


def course(epochs: Sequence[Record]) -> Table:
    """How long a run took, and how much it saw."""
    images, seconds = (sum(record.get(name) or 0 for record in epochs) for name in ("images", "seconds"))
    rows = [("epochs", epochs[-1]["epoch"]), ("steps", epochs[-1]["step"]), ("images seen", images)]
    rows += [("training time", duration(seconds))]
    rows += [("images per second", f"{images / seconds:,.0f}")] if seconds else []
    waiting = waiting_share(epochs)
    rows += [] if waiting is None else [("waiting for data", f"{waiting:.1%} of it")]
    evaluating = sum(record.get("evaluation_seconds") or 0 for record in epochs)
    return Table("Course", [*rows, ("evaluation time", duration(evaluating))])


def warnings(records: Sequence[Record], wanted_epochs: int | None) -> list[Remark]:
    """What went otherwise than hoped."""
    epochs = epochs_of(records)
    found = []
    if not epochs:
        found.append("No epoch is finished: there are no metrics yet.")
    elif wanted_epochs and epochs[-1]["epoch"] < wanted_epochs:
        ended = counted(epochs[-1]["epoch"], "epoch")
        found.append(f"This run is not finished: it has {ended} of {wanted_epochs}. The same command goes on.")
    skipped = sum(bool(record.get("skipped")) for record in records if record.get("kind") == "step")
    if skipped:
        found.append(f"The update was skipped, for a loss or gradient that was not finite, in {skipped} logged steps.")
    missing = sorted({n for r in epochs[-1:] for n, value in r.items() if value is None and n != "images_per_second"})
    if missing:
        found.append(f"Not finite in the last epoch: {', '.join(missing)}.")
    return [Remark(text, warning=True) for text in found]


def _best(epochs: Sequence[Record], name: str) -> tuple[str, str]:
    record = best(epochs, name)
    return ("", "") if record is None else (metric(name, record[name]), str(record["epoch"]))


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
