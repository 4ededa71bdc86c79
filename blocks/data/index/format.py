"""What an index beside shards holds: our index.json (versions 1 and 2) or timm's _info.json. Nothing is trusted."""

import io
import json
import os
import re
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from blocks.data.index.scan import MAX_CLASSES, NO_LABEL

NEWEST = 2
HEADER = 512  # bytes before every file in a tar


@attrs.frozen
class Entry:
    """What an index says of one shard; `start` is its first sample's column in the table of its split."""

    name: str
    samples: int
    start: int
    bytes: int | None = None
    sha256: str | None = None


@attrs.frozen
class Split:
    """The shards of a split in their order, and the file that says where their samples lie."""

    shards: tuple[Entry, ...]
    table: str | None = None


@attrs.frozen
class IndexFile:
    """An index as it was read; `path` is for messages."""

    path: str
    splits: dict[str, Split]
    classes: tuple[str, ...] | None = None
    entries: dict[str, tuple[Split, Entry]] = attrs.field(init=False)

    @entries.default
    def _by_name(self) -> dict[str, tuple[Split, Entry]]:
        return {entry.name: (split, entry) for split in self.splits.values() for entry in split.shards}


def parsed(path: str, data: bytes, parse: Callable[[str, Any], IndexFile]) -> IndexFile:
    try:
        return parse(path, json.loads(data))
    except (KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
    except (ValueError, RecursionError) as error:
        reason = str(error)
    raise ValueError(f"{path} is not an index of shards ({reason}); delete it, or write the shards again")


def parse_ours(path: str, index: dict[str, Any]) -> IndexFile:
    version = index.get("version", 1)
    if version not in range(1, NEWEST + 1):
        raise ValueError(f"version {version} is none of 1 to {NEWEST}; a newer vitmason may read it")
    classes = index.get("classes")
    splits = {name: _our_split(split, version) for name, split in index["splits"].items()}
    return IndexFile(path, splits, tuple(map(_text, classes)) if classes else None)


def _our_split(split: dict[str, Any], version: int) -> Split:
    shards = split["shards"]
    names, counts = [shard["name"] for shard in shards], [shard["samples"] for shard in shards]
    if version == 1:
        return Split(_entries(names, counts))
    if split["samples"] != sum(counts):
        raise ValueError(f"{split['samples']} samples in all, {sum(counts)} in its shards")
    entries = zip(_entries(names, counts), shards, strict=True)
    checked = tuple(
        attrs.evolve(entry, bytes=_count(shard["bytes"]), sha256=_sha256(shard["sha256"])) for entry, shard in entries
    )
    return Split(checked, _inside(split["table"]))


def parse_timms(path: str, index: dict[str, Any]) -> IndexFile:
    splits = index["splits"].items()
    return IndexFile(path, {name: Split(_entries(s["filenames"], s["shard_lengths"])) for name, s in splits})


def _entries(names: list[Any], counts: list[Any]) -> tuple[Entry, ...]:
    if len(names) != len(counts):
        raise ValueError(f"{len(names)} shards and {len(counts)} counts")
    starts = np.cumsum([0, *map(_count, counts)]).tolist()
    return tuple(map(Entry, map(_inside, names), counts, starts))


def _inside(name: Any) -> str:
    """A file below the index's own folder, and no other."""
    parts = re.split(r"[/\\]", _text(name))
    if not name or not parts[0] or ".." in parts or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", name) or "\0" in name:
        raise ValueError(f"{name!r} is no file in its folder")
    return name


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
        raise ValueError(f"{value!r} is no count")
    return value


def _sha256(value: Any) -> str:
    if not re.fullmatch("[0-9a-f]{64}", _text(value)):
        raise ValueError(f"{value!r} is no sha256 in hexadecimal digits")
    return value


def checked_table(path: str, index: str, data: bytes, split: Split) -> np.ndarray:
    """A table whose every sample lies within its shard. Raises ValueError that names what does not."""
    wanted = sum(entry.samples for entry in split.shards)
    try:
        table = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} is not a table of samples ({error}); fetch or write it again") from None
    if not isinstance(table, np.ndarray) or table.dtype != np.int64 or table.shape != (3, wanted):
        found = f"{table.dtype} {list(table.shape)}" if isinstance(table, np.ndarray) else type(table).__name__
        raise ValueError(f"{path} holds {found}, {index} says int64 [3, {wanted}]; fetch or write both again")
    offset, size, label = table
    total = np.repeat([_tar_bytes(entry) for entry in split.shards], [entry.samples for entry in split.shards])
    outside = (offset < HEADER) | (size < 0) | (size > total) | (offset > total - size)
    wrong = outside | ((label < 0) & (label != NO_LABEL)) | (label >= MAX_CLASSES)
    if wrong.any():
        sample = int(np.argmax(wrong))
        raise ValueError(
            f"{path}: sample {sample} has offset {offset[sample]}, size {size[sample]}, label {label[sample]} "
            f"in a shard of {total[sample]} bytes, and labels go to {MAX_CLASSES - 1}; fetch or write both again"
        )
    return table


def _tar_bytes(entry: Entry) -> int:
    """The bytes that offsets count in: of a packed shard they are not known."""
    packed = os.path.splitext(entry.name)[1] in (".gz", ".tgz")
    return np.iinfo(np.int64).max if packed or entry.bytes is None else entry.bytes
