"""Records of a run: JSON lines, one object each with its "step"; numbers in full, NaN and infinity as null."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from blocks.durable import replace

Record = dict[str, Any]


class RecordFile:
    """Appends records. What a killed run wrote beyond `step`, its checkpoint's, is dropped: no step is there twice."""

    def __init__(self, path: str | Path, step: int) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.records = [r for r in read(self.path) if r["step"] <= step]  # what was there before this run
        _rewrite(self.path, self.records)
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 (open as long as this is)

    def write(self, record: Record) -> None:
        """Add one record; it is in the file when this returns."""
        self._file.write(_line(record))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

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


def numbers(record: Record) -> dict[str, float]:
    """A record's numbers by the names that curves have: {"step/loss": 0.5, ...}."""
    values = {name: value for name, value in record.items() if name not in ("kind", "step")}
    return {f"{record['kind']}/{name}": value for name, value in values.items() if isinstance(value, int | float)}


def waiting_share(epochs: Sequence[Record]) -> float | None:
    """The share of the epochs' training time in which no batch was there; None where no record knows."""
    known = [r for r in epochs if r.get("waited_seconds") is not None and r.get("seconds")]
    return sum(r["waited_seconds"] for r in known) / sum(r["seconds"] for r in known) if known else None


def _record(path: Path, place: int, line: str) -> Record:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        raise ValueError(f"line {place + 1} of {path} is not a record of metrics: {line[:60]!r}; mend or remove it")
    return record


def _line(record: Record) -> str:
    return json.dumps(_finite(record), allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """The value with None for every number in it that is not finite."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _rewrite(path: Path, records: list[Record]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(map(_line, records)), encoding="utf-8")
    replace(temporary, path)
