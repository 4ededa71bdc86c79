"""What a run shows: a bar for the step, a line for each epoch, a table at the end; in a log file only the lines."""

import sys
import time
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from blocks.runs.records import Record, waiting_share

QUIET_S = 60.0  # seconds between step lines where there is no bar

# column of the epoch lines: (record's name, title, format)
COLUMNS = (
    ("train_loss", "loss", "{:.4f}"),
    ("train_top1", "train top-1", "{:.2%}"),
    ("val_top1", "val top-1", "{:.2%}"),
    ("ema_top1", "EMA top-1", "{:.2%}"),
    ("train_probe_top1", "probe top-1", "{:.2%}"),
    ("train_feature_std", "spread", "{:.2f}"),
    ("lr", "lr", "{:.3g}"),
    ("images_per_second", "images/s", "{:,.0f}"),
    ("seconds", "s", "{:.1f}"),
)


class Screen:
    """The run's face to people: the first process talks, the others (`quiet`) are silent. A context manager."""

    def __init__(self, *, steps_per_epoch: int, epochs: int, quiet: bool = False, file: TextIO | None = None) -> None:
        self._console = Console(file=file or sys.stdout, quiet=quiet, highlight=False, markup=False)
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
            BarColumn(bar_width=None),
            TextColumn("step {task.completed}/{task.total}  {task.fields[numbers]}  left"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
            transient=True,
            expand=True,
        )
        self._steps_per_epoch, self._total = steps_per_epoch, steps_per_epoch * epochs
        self._task = self._bar.add_task("train", total=self._total, epoch=1, numbers="")
        self._told = time.monotonic()

    def say(self, text: str) -> None:
        """One line of text, above the bar."""
        self._console.print(text, soft_wrap=True)

    def begin(self, step: int) -> None:
        """Start the clock of the bar at a step."""
        self._bar.reset(self._task, completed=step)

    def step(self, step: int, record: Record) -> None:
        """Move the bar to a step, with the numbers of the last logged one; without a terminal a line a minute."""
        numbers = _join(record, {"loss": "loss {:.3f}", "lr": "lr {:.2e}", "images_per_second": "{:,.0f} images/s"})
        epoch = max(0, step - 1) // self._steps_per_epoch + 1
        self._bar.update(self._task, completed=step, epoch=epoch, numbers=numbers)
        if self._bar.disable and time.monotonic() - self._told > QUIET_S:
            self._told = time.monotonic()
            left = self._bar.tasks[0].time_remaining
            self.say(f"step {step}/{self._total}  {numbers}" + ("" if left is None else f"  left {duration(left)}"))

    def epoch(self, record: Record) -> None:
        """One line for a finished epoch."""
        self._told = time.monotonic()
        named = {name: f"{title} {form}" for name, title, form in COLUMNS}
        named |= {name: f"{title} {{:.2%}}" for name, title in _neighbours(record)}
        self.say(f"epoch {record['epoch']:>3}  " + _join(record, named))

    def show(self, table: Table) -> None:
        """A table."""
        self._console.print(table)

    def table(self, rows: dict[str, str], title: str = "the run") -> None:
        """The run in one table of two columns."""
        table = Table(show_header=False, title=title)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows.items():
            table.add_row(name, value)
        self.show(table)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()


def summary(history: list[Record], *, parameters: int) -> dict[str, str]:
    """Rows for the table at the end from the epochs' records."""
    rows: dict[str, str] = {}
    tops = [("val_top1", "val top-1"), ("ema_top1", "EMA top-1")]
    for name, title in tops + (_neighbours(history[-1]) if history else []):
        scored = [r for r in history if r.get(name) is not None]
        if scored:
            best = max(scored, key=lambda r: r[name])
            rows[title] = f"last {scored[-1][name]:.2%}, best {best[name]:.2%} (epoch {best['epoch']})"
    images = sum(r["images"] for r in history)
    seconds = sum(r["seconds"] for r in history)
    rows["epochs"] = f"{history[-1]['epoch']}" if history else "0"
    rows["images seen"] = f"{images:,}"
    rows["parameters"] = f"{parameters:,}"
    rows["training time"] = duration(seconds) + (f" ({images / seconds:,.0f} images/s)" if seconds else "")
    waiting = waiting_share(history)
    return rows if waiting is None else rows | {"waiting for data": f"{waiting:.1%} of it"}


def _neighbours(record: Record) -> list[tuple[str, str]]:
    """(name, title) of the k-NN accuracies in a record, whosever and for whatever k: val_knn20, teacher_knn20 ..."""
    return [(name, name.replace("_knn", " k-NN ")) for name in record if "_knn" in name]


def _join(record: Record, forms: dict[str, str]) -> str:
    return "  ".join(form.format(record[name]) for name, form in forms.items() if record.get(name) is not None)


def duration(seconds: float) -> str:
    """12.3 s, 4 min 5 s, 3 h 20 min."""
    seconds = round(seconds, 1) if seconds < 59.95 else round(seconds)
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest:.0f} s" if minutes else f"{rest:.1f} s"
