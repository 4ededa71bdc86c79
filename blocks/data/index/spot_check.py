"""A few samples of a plain tar against the table of its index: a shard that was replaced has other ones."""

import tarfile
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from blocks.data.index.scan import NO_LABEL, Row, rows


def first_difference(path: str, table: np.ndarray) -> str:
    """Where the tar's own headers say another thing of its first, middle or last sample than int64 [3, n]; "" if none.

    The table's rows are offset, size and label.
    """
    count = table.shape[1]
    with open(path, "rb") as file:
        for sample in sorted({0, count // 2, count - 1} & set(range(count))):
            said = _row(table, sample)
            found = _found(file, path, _row(table, sample - 1)[0] if sample else tarfile.BLOCKSIZE, said[0])
            if found != said:
                return f"of sample {sample} it says {_told(found)}, the index {_told(said)}"
    return ""


def _row(table: np.ndarray, sample: int) -> Row:
    offset, size, label = table[:, sample].tolist()
    return offset, size, label


def _found(file: BinaryIO, path: str, before: int, offset: int) -> Row | None:
    """What the tar says of the sample at an offset, None if there is none; `before`: the data of a file before it."""
    file.seek(before - tarfile.BLOCKSIZE)
    return next((row for row in _readable(rows(file, path)) if row[0] >= offset), None)


def _readable(found: Iterator[Row]) -> Iterator[Row]:
    """Up to the first that is damaged."""
    try:
        yield from found
    except ValueError:
        return


def _told(row: Row | None) -> str:
    if row is None:
        return "nothing"
    offset, size, label = row
    return f"{'no label' if label == NO_LABEL else f'label {label}'} and {size} bytes from byte {offset}"
