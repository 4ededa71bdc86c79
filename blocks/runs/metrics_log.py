"""What a run measured: a line in `out/metrics.jsonl` for each logged step and epoch, and the same to TensorBoard.

Every record has "kind" ("step" or "epoch") and "step".
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, Self

from blocks.runs.records import Record, RecordFile
from blocks.runs.tensorboard import TensorBoard


class Sink(Protocol):
    """Where records go."""

    def write(self, record: Record) -> None:
        """Add one."""

    def close(self) -> None:
        """No more come."""


class MetricsLog:
    """Appends records. What a killed run wrote beyond `step`, its checkpoint's, is dropped: no step is there twice."""

    def __init__(
        self, folder: str | Path, step: int, say: Callable[[str], None] = print, others: Sequence[Sink] = ()
    ) -> None:
        self._file = RecordFile(Path(folder) / "metrics.jsonl", step)
        self._sinks: list[Sink] = [self._file, TensorBoard(Path(folder) / "tensorboard", step, say), *others]

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
        for sink in self._sinks:
            sink.write(record)

    def close(self) -> None:
        """Close all."""
        for sink in self._sinks:
            sink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
