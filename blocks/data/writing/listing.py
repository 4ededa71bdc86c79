"""Lists of images: a CSV, JSON or JSON-lines file with a path, a label and perhaps more for each."""

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blocks.data.writing.item import class_number
from blocks.data.writing.source import Files, Source

SUFFIXES = (".csv", ".json", ".jsonl")
DIGITS = 100  # far more than a class number has; Python refuses to read some thousands
UTF_8 = "utf-8-sig"  # spreadsheets and Windows begin a file with a mark
Row = tuple[str, dict[str, Any]]  # where it stands, for messages, and what it says


def list_source(file: str | os.PathLike, labelled: bool = True) -> Source:
    """The images of a list with `path` and, unless it is not `labelled`, `label`; all else is metadata. Paths are
    relative to the list's folder.

    Labels are class numbers if all of them are, else names, which are numbered in their sorted order.
    """
    needed = ("path", "label") if labelled else ("path",)
    file = Path(file)
    rows = list(_rows(file))
    if not rows:
        raise ValueError(f"{file} lists no image")
    for where, row in rows:
        _check(row, needed, where)
    _check_split(file, rows)
    labels, classes = _numbered(rows) if labelled else ([], ())
    metadata = [{name: row[name] for name in row if name not in needed} for _, row in rows]
    files = Files(file.parent, [row["path"] for _, row in rows], labels, metadata)
    return Source(str(file), files, classes, files.identity(), labelled=labelled)


def _rows(file: Path) -> Iterator[Row]:
    """Raises ValueError for a file of another kind, with the line."""
    readers = {".csv": _csv, ".json": _json, ".jsonl": _json_lines}
    if file.suffix.lower() not in readers:
        raise ValueError(f"{file} is no list; wanted {', '.join(SUFFIXES)}")
    try:
        yield from readers[file.suffix.lower()](file)
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 ({error}); save it as UTF-8") from None


def _csv(file: Path) -> Iterator[Row]:
    with open(file, encoding=UTF_8, newline="") as text:
        reader = csv.DictReader(text)
        try:
            names = list(reader.fieldnames or ())
            if len(set(names)) != len(names):
                raise ValueError(f"{file} has a column twice: {', '.join(names)}")
            for row in reader:
                where = f"{file}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise ValueError(f"{where} has not as many columns as the first line ({len(names)})")
                yield where, row
        except csv.Error as error:
            raise ValueError(f"{file}, line {reader.line_num}: {error}") from None


def _json(file: Path) -> Iterator[Row]:
    rows = _parsed(file.read_text(encoding=UTF_8), str(file))
    if not isinstance(rows, list):
        raise ValueError(f'{file} holds a {type(rows).__name__}, not a list: [{{"path": ..., "label": ...}}, ...]')
    yield from ((f"{file}, entry {number}", row) for number, row in enumerate(rows, 1))


def _json_lines(file: Path) -> Iterator[Row]:
    with open(file, encoding=UTF_8) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                where = f"{file}, line {number}"
                yield where, _parsed(line, where)


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where} is not JSON: {error}") from None


def _check(row: dict[str, Any], needed: tuple[str, ...], where: str) -> None:
    if not isinstance(row, dict):
        raise ValueError(f'{where} is {row!r}; wanted {{"path": ..., "label": ...}}')
    for name in needed:
        if row.get(name) in (None, ""):
            more = "; for images without labels give --unlabelled (labelled=False)" if name == "label" else ""
            raise ValueError(f"{where} has no {name}; its columns are {', '.join(map(str, row)) or 'none'}{more}")
    if not isinstance(row["path"], str):
        raise ValueError(f"{where}: path {row['path']!r} is no text")
    if "label" in needed and isinstance(row["label"], bool):  # which Python would take for 0 or 1
        raise ValueError(f"{where}: label {json.dumps(row['label'])} is neither a number nor a name; write one of them")


def _check_split(file: Path, rows: list[Row]) -> None:
    """Rows of val would be trained on."""
    found = sorted({str(row["split"]) for _, row in rows if "split" in row})
    if len(found) > 1:
        named = ", ".join(found[:3])
        raise ValueError(f"{file} has several splits in its column split ({named}); write a list for each")


def _numbered(rows: list[Row]) -> tuple[list[int], tuple[str, ...]]:
    labels = [row["label"] for _, row in rows]
    if all(map(_is_number, labels)):
        return [class_number(_whole(label), where) for label, (where, _) in zip(labels, rows, strict=True)], ()
    for label, (where, _) in zip(labels, rows, strict=True):
        if not isinstance(label, str):
            raise ValueError(f"{where}: label {label!r} is no name, as other labels are; give names or numbers alone")
    classes = sorted(set(labels))
    numbers = {name: number for number, name in enumerate(classes)}
    for label, (where, _) in zip(labels, rows, strict=True):
        if label != label.strip() and label.strip() in numbers:
            raise ValueError(f"{where}: label {label!r} is {label.strip()!r} but for spaces; write them alike")
    return [numbers[label] for label in labels], tuple(classes)


def _is_number(label: Any) -> bool:
    try:
        float(label)
    except (TypeError, ValueError):
        return False
    return True


def _whole(label: Any) -> Any:
    """Text of a whole number as an int, all else as it is, for the check that it is one."""
    whole = isinstance(label, str) and len(label) < DIGITS and label.strip().lstrip("-").isdecimal()
    return int(label) if whole else label
