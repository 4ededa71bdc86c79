"""What a run measured: a line in `out/metrics.jsonl` for each logged step and epoch, and the same to TensorBoard.

Every record has "kind" ("step" or "epoch") and "step".
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from blocks.runs.records import Record, RecordFile


class MetricsLog:
    """Appends records. What a killed run wrote beyond `step`, its checkpoint's, is dropped: no step is there twice."""

    def __init__(self, folder: str | Path, step: int, say: Callable[[str], None] = print) -> None:
        self._file = RecordFile(Path(folder) / "metrics.jsonl", step)
        self._events = _events(Path(folder) / "tensorboard", step, say)

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    @property
    def records(self) -> list[Record]:
        """What was there before this run."""
        return self._file.records

    def write(self, record: Record) -> None:
        """Add one record; it is in the file when this returns."""
        self._file.write(record)
        if self._events:
            for name, value in numbers(record).items():
                self._events.add_scalar(name, value, record["step"])

    def close(self) -> None:
        """Close all."""
        self._file.close()
        if self._events:
            self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def numbers(record: Record) -> dict[str, float]:
    """A record's numbers by the names that curves have: {"step/loss": 0.5, ...}."""
    values = {name: value for name, value in record.items() if name not in ("kind", "step")}
    return {f"{record['kind']}/{name}": value for name, value in values.items() if isinstance(value, int | float)}


def _events(folder: Path, step: int, say: Callable[[str], None]) -> Any:
    """TensorBoard's writer, which hides what an interrupted run wrote beyond `step`; None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        say("tensorboard is not installed: metrics go to metrics.jsonl only (pip install tensorboard for both)")
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)
