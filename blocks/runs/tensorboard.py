"""A run's numbers to TensorBoard."""

from collections.abc import Callable
from pathlib import Path

from blocks.runs.records import Record, numbers


class TensorBoard:
    """Event files in a folder; what an interrupted run wrote beyond `step` is hidden. Silent where not installed."""

    def __init__(self, folder: Path, step: int, say: Callable[[str], None]) -> None:
        self._events = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            say("tensorboard is not installed: metrics go to metrics.jsonl only (pip install tensorboard for both)")
            return
        self._events = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, record: Record) -> None:
        """Add a record's numbers."""
        if self._events:
            for name, value in numbers(record).items():
                self._events.add_scalar(name, value, record["step"])

    def close(self) -> None:
        """Write what is left."""
        if self._events:
            self._events.close()
