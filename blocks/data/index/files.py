"""The index files beside shards, and the tables of samples that they name, read once each."""

import os
from pathlib import Path

import numpy as np

from blocks.data.index.format import Entry, IndexFile, Split, checked_table, parse_ours, parse_timms, parsed
from blocks.data.index.places import Place, join
from blocks.data.storage.fetch import is_pipe, is_remote, read
from blocks.data.storage.retries import Retries
from blocks.data.writing.journal import NAME as UNFINISHED

FORMATS = (("index.json", parse_ours), ("_info.json", parse_timms))


class IndexFiles:
    """The indices of some folders, local or remote: each file is read once."""

    def __init__(self, retries: Retries):
        self.retries = retries
        self._indices: dict[str, IndexFile | None] = {}
        self._tables: dict[str, np.ndarray] = {}

    def at(self, folder: str) -> IndexFile | None:
        """The index of a folder, None where there is none. Raises ValueError for one of another kind, and where it is
        not there yet.
        """
        if folder not in self._indices:
            self._indices[folder] = None if is_pipe(folder) else self._read_index(folder)
        return self._indices[folder]

    def entry(self, place: Place) -> Entry | None:
        """What the index says of a shard, None where it does not list it."""
        index = self.at(place.folder)
        return index.entries[place.base][1] if index and place.base in index.entries else None

    def rows(self, place: Place) -> np.ndarray | None:
        """Where a shard's samples lie, int64 [3, n] of offset, size, label, if the index has a table of them."""
        index = self.at(place.folder)
        if index is None or place.base not in index.entries:
            return None
        split, entry = index.entries[place.base]
        if split.table is None:
            return None
        return self._table(place.folder, index, split)[:, entry.start : entry.start + entry.samples]

    def _read_index(self, folder: str) -> IndexFile | None:
        for name, parse in FORMATS:
            data = self._bytes(join(folder, name))
            if data is not None and not (is_remote(folder) and _is_page(data)):
                return parsed(join(folder, name), data, parse)
        if not is_remote(folder) and os.path.exists(join(folder, UNFINISHED)):
            raise ValueError(
                f"{folder} holds a half-finished conversion ({UNFINISHED}): give the command that began it again, and "
                "it goes on"
            )
        return None

    def _table(self, folder: str, index: IndexFile, split: Split) -> np.ndarray:
        path = join(folder, str(split.table))
        if path not in self._tables:
            data = self._bytes(path)
            if data is None:
                raise FileNotFoundError(f"{path} is missing, but {index.path} names it; fetch or write it again")
            self._tables[path] = checked_table(path, index.path, data, split)
        return self._tables[path]

    def _bytes(self, path: str) -> bytes | None:
        try:
            return read(path, self.retries) if is_remote(path) else Path(path).read_bytes()
        except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
            if isinstance(error, PermissionError) and not is_remote(path):
                raise
            return None  # object stores forbid what is not there


def _is_page(data: bytes) -> bool:
    """Whether it is no JSON object: what a web server may give, as if it were there, for a file that it has not."""
    return not data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")  # behind a byte-order mark, which JSON may have
