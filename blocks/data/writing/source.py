"""What samples are taken from."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs

from blocks.data.writing.item import Item


@attrs.frozen(eq=False)
class Source:
    """The items to write, and the names of their classes, empty if they have none; of items that are not `labelled`
    the pictures alone are written.

    A Sequence is shuffled, always in the same way, and each item asked for in a worker process; any other iterable
    is stored as it comes. A conversion goes on only from a source of the `identity` it began with: of files that is
    their names, sizes, times, labels and metadata, of a data set what it says of itself without a picture. Without one
    the items' names are compared as they are drawn again.
    """

    name: str  # what messages call it
    items: Iterable[Item]
    classes: tuple[str, ...] = ()
    identity: str = ""
    ignored: tuple[str, ...] = ()  # what was left out because it is no image
    labelled: bool = True

    @property
    def size(self) -> int | None:
        """The number of items, None if only the end will tell."""
        return len(self.items) if isinstance(self.items, Sequence) else None


@attrs.frozen(eq=False)
class Files(Sequence):
    """Items that are files below a folder, perhaps with the label and the metadata of each."""

    root: Path
    paths: Sequence[str]
    labels: Sequence[int] = ()
    metadata: Sequence[dict[str, Any]] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i):
        path = self.paths[i]
        return Item(None, self.root / path, self._label(i), self.metadata[i] if self.metadata else {}, path)

    def _label(self, i: int) -> int | None:
        return self.labels[i] if len(self.labels) else None

    def _state(self, i: int) -> tuple[int, int]:
        """Size and time; (0, 0) of a file that is not there, or that no file can be."""
        try:
            found = os.stat(self.root / self.paths[i])
        except (OSError, ValueError):
            return 0, 0
        return found.st_size, found.st_mtime_ns

    def identity(self) -> str:
        """A digest of all paths, labels and metadata, not of the root, and of the files' sizes and times."""
        sha = hashlib.sha256()
        for i in range(len(self)):
            sha.update(os.fsencode(self.paths[i]) + f"\0{self._label(i)}\0{self._state(i)}".encode())
            sha.update(json.dumps(self.metadata[i], sort_keys=True).encode() if self.metadata else b"")
            sha.update(b"\n")
        return sha.hexdigest()
