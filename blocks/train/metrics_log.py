"""What a run measured: JSON lines in `out/metrics.jsonl`, one object a logged step and an epoch, and TensorBoard.

Every object has "kind" ("step" or "epoch") and "step"; numbers are written in full, NaN and infinity as null.
"""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

Record = dict[str, Any]


class MetricsLog:
    """Appends records. What a killed run wrote beyond `step`, its checkpoint's, is dropped: no step is there twice."""

    def __init__(self, folder: str | Path, step: int, say: Callable[[str], None] = print) -> None:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "metrics.jsonl"
        self.records = [r for r in read(self.path) if r["step"] <= step]  # what was there before this run
        _rewrite(self.path, self.records)
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 (open as long as the log is)
        self._events = _events(folder / "tensorboard", step, say)

    def write(self, record: Record) -> None:
        """Add one record; it is in the file when this returns."""
        self._file.write(_line(record))
        self._file.flush()
        if self._events:
            for name, value in record.items():
                if name not in ("kind", "step") and isinstance(value, int | float):
                    self._events.add_scalar(f"{record['kind']}/{name}", value, record["step"])

    def close(self) -> None:
        """Close both files."""
        self._file.close()
        if self._events:
            self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def read(path: str | Path) -> list[Record]:
    """The records of a file, [] if there is none; a last line that a kill cut short is left out."""
    path = Path(path)
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [_record(path, i, line) for i, line in enumerate(lines[:-1]) if line]


def _record(path: Path, place: int, line: str) -> Record:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        raise ValueError(f"line {place + 1} of {path} is not a record of metrics: {line[:60]!r}; mend or remove it")
    return record


def _line(record: Record) -> str:
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
    return json.dumps(finite, allow_nan=False) + "\n"


def _rewrite(path: Path, records: list[Record]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(map(_line, records)), encoding="utf-8")
    os.replace(temporary, path)


def _events(folder: Path, step: int, say: Callable[[str], None]) -> Any:
    """TensorBoard's writer, which hides what an interrupted run wrote beyond `step`; None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        say("tensorboard is not installed: metrics go to metrics.jsonl only (pip install tensorboard for both)")
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)
