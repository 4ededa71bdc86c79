"""Sources to shards with an index; what was interrupted goes on."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from rich.progress import Progress

from blocks.data.decode import EXTENSIONS
from blocks.data.manifest import write_manifest
from blocks.data.pool import progress_bar
from blocks.data.writer import Members, check_limits, shard_name, write_shard
from blocks.data.writing.choose import source_of
from blocks.data.writing.encoding import Encoding
from blocks.data.writing.journal import Journal
from blocks.data.writing.source import Source
from blocks.data.writing.stream import Stream

LISTED = 5  # classes or images named in an error


@attrs.frozen(eq=False)
class Written:
    """What one split became: its index entry's shards, int64 [3, N] of offset, size, label, and what was left out."""

    source: Source
    shards: list[dict[str, Any]]
    table: np.ndarray
    unreadable: dict[str, str]  # reason by name

    @property
    def samples_per_class(self) -> list[int]:
        return np.bincount(self.table[2], minlength=len(self.source.classes)).tolist()


class NothingKept(ValueError):
    """Unreadable images that `strict` does not allow; `written` says which."""

    def __init__(self, written: dict[str, Written]):
        self.written = written
        count = sum(len(split.unreadable) for split in written.values())
        super().__init__(f"{count} unreadable images and --strict (strict=True): nothing is kept")


def write_dataset(
    source: Any,
    folder: str | os.PathLike,
    split: str = "train",
    *,
    samples_per_shard: int = 10_000,
    bytes_per_shard: int = 1_000_000_000,
    encoding: Encoding = Encoding(),  # noqa: B008, frozen
    workers: int | None = None,
    strict: bool = False,
    restart: bool = False,
    progress: bool = True,
) -> dict[str, Written]:
    """Write folder/SPLIT-000000.tar ... and the index -> what each split became.

    A source is an image folder, a .csv, .json or .jsonl list, a map-style dataset, an iterable of (key, image, label,
    metadata), or a `Source`; a mapping of splits to sources writes several splits. Pictures are decoded to see that
    they can be, in `workers` processes (all cores if None, 0: here), and stored as `encoding` says. Equal sources give
    equal files. What is interrupted goes on after the last whole shard when it is called again; `restart` forgets it.

    Raises ValueError for a mistake in the source, for a folder that holds shards, for other settings or sources than
    a half-finished folder was begun with; NothingKept if `strict` and an image is unreadable; OSError for a full disk.
    """
    named = source if isinstance(source, Mapping) else {split: source}
    sources = {name: source_of(thing) for name, thing in named.items()}
    classes = _common_classes(sources)
    check_limits(samples_per_shard, bytes_per_shard)
    limits = {"samples_per_shard": samples_per_shard, "bytes_per_shard": bytes_per_shard}
    settings = {**limits, **attrs.asdict(encoding), "sources": _identities(sources)}
    journal = Journal(Path(folder), settings, restart)
    finished = False
    try:
        with progress_bar(visible=progress, unit="images") as bar:
            written = {
                name: _write_split(name, one, journal, encoding, tuple(limits.values()), _workers(workers), bar)
                for name, one in sources.items()
            }
        if strict and any(one.unreadable for one in written.values()):
            journal.discard()
            raise NothingKept(written)
        shards = {name: one.shards for name, one in written.items()}
        write_manifest(journal.folder, list(classes), shards, {name: one.table for name, one in written.items()})
        finished = True
    except BaseException as error:
        if journal.records:
            error.add_note(
                f"{len(journal.records)} whole shards in {folder} are kept; the same again goes on after them"
            )
        raise
    finally:
        journal.close(finished)
    return written


def _write_split(
    split: str, source: Source, journal: Journal, encoding: Encoding, limits: tuple, workers: int, bar: Progress
) -> Written:
    with closing(Stream(source, encoding, workers, journal.shards(split))) as stream:
        samples = _shown(split, stream, bar)
        for first in samples:
            path = journal.folder / shard_name(split, len(journal.shards(split)))
            shard, members = write_shard(chain([first], samples), path, *limits)
            rows = _rows(members, stream.labels)
            journal.add({"split": split, "shard": shard, "rows": rows, **stream.mark()})
    done = journal.shards(split)
    unreadable = {name: reason for record in [*done, stream.mark()] for name, reason in record["unreadable"].items()}
    if not done:
        listed = "; ".join(f"{name}: {reason}" for name, reason in list(unreadable.items())[:LISTED])
        raise ValueError(
            f"{source.name} has no readable image" + (f" among {stream.drawn}: {listed}" if listed else "")
        )
    table = np.concatenate([np.array(record["rows"], np.int64) for record in done], axis=1)
    return Written(source, [record["shard"] for record in done], table, unreadable)


def _shown(split: str, stream: Stream, bar: Progress) -> Iterator[dict[str, Any]]:
    task = bar.add_task(split, total=stream.source.size, completed=stream.drawn)
    for sample in stream:
        bar.update(task, completed=stream.drawn)
        yield sample
    bar.update(task, completed=stream.drawn)


def _rows(members: list[Members], labels: list[int]) -> list[list[int]]:
    """Offset, size and label of each image, a row each."""
    places = [next(place for extension, place in files.items() if extension in EXTENSIONS) for files in members]
    offsets, sizes = zip(*places, strict=True)
    return [list(offsets), list(sizes), labels]


def _workers(workers: int | None) -> int:
    return (os.cpu_count() or 1) if workers is None else workers


def _common_classes(sources: dict[str, Source]) -> tuple[str, ...]:
    """Raises ValueError for splits whose classes differ, or whose names do not fit files."""
    if not sources:
        raise ValueError("no source is given; give one for each split: {'train': ..., 'val': ...}")
    for name in sources:
        if not re.fullmatch("[A-Za-z0-9_-]+", name):
            raise ValueError(f"split {name!r} is part of files' names; take letters, digits, _ and -")
    (first, source), *others = sources.items()
    for name, other in others:
        if other.classes != source.classes:
            odd = sorted(set(other.classes) ^ set(source.classes)) or ["their order"]
            raise ValueError(f"{first} and {name} differ in classes: {', '.join(odd[:LISTED])}; give both the same")
    return source.classes


def _identities(sources: dict[str, Source]) -> dict[str, list[str]]:
    """What messages call each source, and a digest of what it is."""
    return {split: [_named(source), _digest(source)] for split, source in sources.items()}


def _named(source: Source) -> str:
    return source.name if source.size is None else f"{source.name} ({source.size} samples)"


def _digest(source: Source) -> str:
    return hashlib.sha256(json.dumps([source.identity, source.classes]).encode()).hexdigest()
