"""The checkpoint of a run's best epoch, `out/best.pt`, which stays when newer ones take its place."""

import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from operator import gt, lt
from pathlib import Path

import attrs

from blocks.durable import replace
from blocks.runs import checkpoint

NAME = "best.pt"


@attrs.frozen
class Best:
    """Keeps the checkpoint of the epoch whose `metric` is the highest, or the lowest of one that ends in "loss".

    "" keeps none; a value that is not finite is never the best. All processes look, the one that `writes` keeps.
    """

    folder: Path = attrs.field(converter=Path)
    metric: str = ""
    writes: bool = True

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.folder / NAME

    def look(
        self,
        step: int,
        found: Mapping[str, float],
        history: Sequence[Mapping[str, float]],
        write: Callable[[Path], object],
    ) -> None:
        """See an epoch's evaluations, and what the epochs before it found, before anyone notes them.

        `write` is for an epoch without a checkpoint of its own, as one that ends in a skipped update.
        Raises ValueError for a metric that no evaluation has.
        """
        if not self.metric:
            return
        if self.metric not in found:
            has = f"there are {', '.join(found)}" if found else "this run evaluates nothing"
            raise ValueError(f"best {self.metric} is no metric of the evaluations; {has}")
        better = lt if self.metric.endswith("loss") else gt
        value, saved = found[self.metric], checkpoint.path(self.folder, step)
        before = _finite([record.get(self.metric) for record in history]) if self.path.is_file() else []
        if self.writes and _finite([value]) and all(better(value, other) for other in before):
            if saved.is_file():
                keep(saved, self.path)
            else:
                write(self.path)


def _finite(values: Sequence[float | None]) -> list[float]:
    """Those that can be compared: what is not finite is null in the file from which a run goes on."""
    return [value for value in values if value is not None and math.isfinite(value)]


def keep(saved: Path, path: Path) -> None:
    """Give a checkpoint a second name, whole or not at all; a copy where the disk knows no second names."""
    second = path.with_suffix(".tmp")
    second.unlink(missing_ok=True)
    try:
        os.link(saved, second)
    except OSError:
        shutil.copyfile(saved, second)
    replace(second, path)
    second.unlink(missing_ok=True)  # it is still there where both were names of one file
