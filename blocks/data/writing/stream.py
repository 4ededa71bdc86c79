"""The samples of a source in stored order, prepared in processes; it knows how far it has come."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from blocks.data.decode import UnreadableImage
from blocks.data.index.scan import NO_LABEL
from blocks.data.order import epoch_order
from blocks.data.pool import process_map
from blocks.data.writing.encoding import Encoding
from blocks.data.writing.item import KEY_LENGTH, Item, safe
from blocks.data.writing.prepare import Prepare, Prepared
from blocks.data.writing.source import Source

CHUNK = 16  # images a worker takes at a time
STEM = 60  # characters of a name in the key that is made of it; with the number they are below KEY_LENGTH
assert STEM + 20 < KEY_LENGTH


class Stream:
    """An iterator of webdataset samples from where the whole shards end; `done` are these shards' records.

    Unreadable images are left out and kept by name and reason.
    """

    def __init__(self, source: Source, encoding: Encoding, workers: int, done: list[dict[str, Any]]):
        self.source, self.drawn = source, done[-1]["drawn"] if done else 0
        self._stored = sum(record["shard"]["samples"] for record in done)
        self._keys = {key for record in done for key in record["keys"]}
        self._names = hashlib.sha256()
        self._clear()
        prepare, places = self._work(encoding, done)
        self._results = process_map(prepare, places, workers, CHUNK)

    def _work(self, encoding: Encoding, done: list[dict[str, Any]]) -> tuple[Prepare, Iterable[Any]]:
        if self.source.size is None:
            return Prepare(encoding), self._rest(done)
        order = epoch_order(self.source.size, seed=0, epoch=0).tolist()  # or a shard would hold a single class
        return Prepare(encoding, self.source.items), order[self.drawn :]  # type: ignore[arg-type]

    def _rest(self, done: list[dict[str, Any]]) -> Iterator[Item]:
        """The items after those of the whole shards. Raises ValueError unless these have the same names as before."""
        items = iter(self.source.items)
        for count in range(self.drawn):
            item = next(items, None)
            if item is None:
                raise ValueError(f"{self.source.name} gave {count} samples, but {self.drawn} before; {_ANEW}")
            self._name(item.name)
        if done and self._names.hexdigest() != done[-1]["names"]:
            raise ValueError(f"{self.source.name} gives other samples than the {self.drawn} before; {_ANEW}")
        yield from items

    def _name(self, name: str) -> None:
        self._names.update(name.encode("utf-8", "surrogatepass") + b"\0")

    def _clear(self) -> None:
        self._unreadable: list[tuple[str, str]] = []
        self._new_keys: list[str] = []
        self.labels: list[int] = []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for result in self._results:
            self.drawn += 1
            if isinstance(result, UnreadableImage):
                self._name(result.name)
                self._unreadable.append((result.name, result.reason))
                continue
            self._name(result.name)
            yield self._sample(result)

    def _sample(self, ready: Prepared) -> dict[str, Any]:
        label = self._label(ready)
        sample: dict[str, Any] = {"__key__": self._key(ready), ready.extension: ready.image}
        sample |= {} if label is None else {"cls": b"%d" % label}
        sample |= {"json": ready.metadata} if ready.metadata else {}
        self._stored += 1
        self.labels.append(NO_LABEL if label is None else label)
        return sample

    def _label(self, ready: Prepared) -> int | None:
        """Its class number, None of pictures alone."""
        if not self.source.labelled:
            return None
        classes = self.source.classes
        if ready.label is None:
            raise ValueError(f"{ready.name}: no label; for images without labels give --unlabelled (labelled=False)")
        if classes and ready.label >= len(classes):
            raise ValueError(f"{ready.name}: label {ready.label} is not one of {len(classes)} classes")
        return ready.label

    def _key(self, ready: Prepared) -> str:
        stem = ready.name.rpartition("/")[2]
        key = ready.key or f"{self._stored:08d}_{safe(stem.rpartition('.')[0] or stem)[:STEM]}"
        if key in self._keys:
            raise ValueError(f"key {key!r} is given twice, the second time to sample {self.drawn - 1}; keys are unique")
        if ready.key:
            self._keys.add(key)
            self._new_keys.append(key)
        return key

    def close(self) -> None:
        """End the processes."""
        self._results.close()

    def mark(self) -> dict[str, Any]:
        """How far it has come, for a shard's record; what belongs to one shard begins anew."""
        record = {
            "drawn": self.drawn,
            "names": self._names.hexdigest(),
            "keys": self._new_keys,
            "unreadable": self._unreadable,
        }
        self._clear()
        return record


_ANEW = "begin anew with --restart (restart=True)"
