"""Samples that only come one after another."""

from collections.abc import Iterable, Iterator

from blocks.data.writing.item import Item
from blocks.data.writing.source import Source


def iterator_source(
    items: Iterable[Item | tuple], classes: Iterable[str] = (), name: str = "the iterator", labelled: bool = True
) -> Source:
    """Any iterable of `Item` or (key, image, label[, metadata]), stored in its order; unless it is `labelled` a label
    may be left out, and is not looked at.

    To go on after an interruption it is drawn from the start again; what is in finished shards is not decoded again.
    """
    return Source(name, _drawn(items, name, labelled), tuple(classes), labelled=labelled)


def _drawn(items: Iterable[Item | tuple], name: str, labelled: bool) -> Iterator[Item]:
    for number, entry in enumerate(items):
        if isinstance(entry, Item):
            yield entry
        elif isinstance(entry, tuple) and len(entry) in ((3, 4) if labelled else (2, 3, 4)):
            key, image, label, metadata = (*entry, None, None)[:4]
            yield Item(key, image, label if labelled else None, metadata, f"sample {number}" if key is None else key)
        else:
            what = f"a tuple of {len(entry)}" if isinstance(entry, tuple) else f"a {type(entry).__name__}"
            raise ValueError(f"{name} gives {what} as sample {number}; give (key, image, label) or (..., metadata)")
