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

from blocks.checks import is_whole
from blocks.data.bars import progress_bar
from blocks.data.decode import EXTENSIONS
from blocks.data.writing.choose import sources_of
from blocks.data.writing.encoding import Encoding
from blocks.data.writing.held_out import with_val
from blocks.data.writing.journal import Journal
from blocks.data.writing.manifest import samples_per_class, write_manifest
from blocks.data.writing.source import Source
from blocks.data.writing.stream import Stream
from blocks.data.writing.writer import Members, check_limits, shard_name, write_shard

LISTED = 5  # classes or images named in an error


@attrs.frozen(eq=False)
class Written:
    """What one split became: its index entry's shards, int64 [3, N] of offset, size, label, and what was left out."""

    source: Source
    shards: list[dict[str, Any]]
    table: np.ndarray
    unreadable: list[tuple[str, str]]  # name and reason

    @property
    def samples_per_class(self) -> list[int]:
        return samples_per_class(self.table, len(self.source.classes))


class NothingKept(ValueError):
    """Unreadable images that `strict` does not allow; `written` says which."""

    def __init__(self, written: dict[str, Written]):
        self.written = written
        count = sum(len(split.unreadable) for split in written.values())
        super().__init__(f"{count} unreadable images and --strict (strict=True): nothing is kept")


def write_dataset(
    source: Any,
    folder: str | os.PathLike,
    split: str | None = None,
    *,
    samples_per_shard: int = 10_000,
    bytes_per_shard: int = 1_000_000_000,
    encoding: Encoding = Encoding(),  # noqa: B008, frozen
    workers: int | None = None,
    strict: bool = False,
    restart: bool = False,
    progress: bool = True,
    labelled: bool = True,
    val_share: float | None = None,
) -> dict[str, Written]:
    """Write folder/SPLIT-000000.tar ... and the index -> what each split became.

    A source is an image folder, a .csv, .json or .jsonl list, a map-style dataset, an iterable of (key, image, label,
    metadata), or a `Source`. It is the split "train", or the one that is named. A mapping of splits to sources writes
    several, as does a folder of train/, val/ and perhaps test/ unless one of them is named. Pictures are decoded to see
    that they can be, in `workers` processes (all cores if None, 0: here), and stored as `encoding` says. Equal sources
    give equal files. What is interrupted goes on after the last whole shard when it is called again, while the source
    is what it was; `restart` forgets it.
    With a `val_share` a folder or a list without splits gets both: about that share of every class becomes val, by the
    files' names alone, so that pictures that are added later move none of the others.
    Unless the source is `labelled`, its pictures alone are written, for pretraining: those of a folder wherever they
    lie, of a list without label column, or of anything that has labels too.

    Raises ValueError for a mistake in the source, for a folder that holds shards or lies in the images' own, for other
    settings or sources than a half-finished folder was begun with; NothingKept if `strict` and an image is unreadable;
    OSError for a full disk.
    """
    _refuse_inside(source, Path(folder))
    sources = sources_of(source, split, labelled)
    if val_share is not None:
        sources = with_val(sources, val_share)
    classes = _common_classes(sources)
    check_limits(samples_per_shard, bytes_per_shard)
    if workers is not None and not is_whole(workers, 0):
        raise ValueError(f"workers {workers} is not a count; give 0 or more processes")
    limits = {"samples_per_shard": samples_per_shard, "bytes_per_shard": bytes_per_shard}
    settings = {"val_share": val_share, **limits, **attrs.asdict(encoding), "labelled": labelled}
    settings["sources"] = _identities(sources)
    journal = Journal(Path(folder), settings, restart)
    try:
        work = _Work(journal, encoding, samples_per_shard, bytes_per_shard, _cores() if workers is None else workers)
        written = work.splits(sources, progress)
        if strict and any(one.unreadable for one in written.values()):
            journal.discard()
            raise NothingKept(written)
        shards, tables = {}, {}
        for name, one in written.items():
            shards[name], tables[name] = one.shards, one.table
        write_manifest(journal.folder, list(classes), shards, tables)
    except BaseException as error:
        if journal.records:
            error.add_note(
                f"{len(journal.records)} whole shards in {folder} are kept; the same again goes on after them"
            )
        journal.close(finished=False)
        raise
    journal.close(finished=True)
    return written


@attrs.frozen(eq=False)
class _Work:
    """What is the same for all splits."""

    journal: Journal
    encoding: Encoding
    samples_per_shard: int
    bytes_per_shard: int
    workers: int

    def splits(self, sources: dict[str, Source], progress: bool) -> dict[str, Written]:
        with progress_bar(visible=progress, unit="images") as bar:
            return {name: self.split(name, source, bar) for name, source in sources.items()}

    def split(self, name: str, source: Source, bar: Progress) -> Written:
        """Write the shards that are not there yet, and say what all of them hold."""
        with closing(Stream(source, self.encoding, self.workers, self.journal.shards(name))) as stream:
            samples = _shown(name, stream, bar)
            for first in samples:
                self._write_shard(name, stream, chain([first], samples))
        done = self.journal.shards(name)
        unreadable = [(key, reason) for record in [*done, stream.mark()] for key, reason in record["unreadable"]]
        if not done:
            raise ValueError(_nothing(source, stream.drawn, unreadable))
        table = np.concatenate([record["rows"] for record in done], axis=1)
        return Written(source, [record["shard"] for record in done], table, unreadable)

    def _write_shard(self, split: str, stream: Stream, samples: Iterator[dict[str, Any]]) -> None:
        path = self.journal.folder / shard_name(split, len(self.journal.shards(split)))
        shard, members = write_shard(samples, path, self.samples_per_shard, self.bytes_per_shard)
        self.journal.add({"split": split, "shard": shard, "rows": _rows(members, stream.labels), **stream.mark()})


def _nothing(source: Source, drawn: int, unreadable: list[tuple[str, str]]) -> str:
    listed = "; ".join(f"{name}: {reason}" for name, reason in unreadable[:LISTED])
    return f"{source.name} has no readable image" + (f" among {drawn}: {listed}" if listed else "")


def _shown(split: str, stream: Stream, bar: Progress) -> Iterator[dict[str, Any]]:
    task = bar.add_task(split, total=stream.source.size, completed=stream.drawn)
    for sample in stream:
        bar.update(task, completed=stream.drawn)
        yield sample
    bar.update(task, completed=stream.drawn)


def _rows(members: list[Members], labels: list[int]) -> np.ndarray:
    """int64 [3, n]: offset, size and label of each image."""
    places = [next(place for extension, place in files.items() if extension in EXTENSIONS) for files in members]
    return np.array([*zip(*places, strict=True), labels], np.int64)


def _cores() -> int:
    return os.cpu_count() or 1


def _refuse_inside(source: Any, out: Path) -> None:
    """Raises ValueError for shards in an image folder: it would be another one when the conversion goes on."""
    for one in source.values() if isinstance(source, Mapping) else [source]:
        is_folder = isinstance(one, (str, os.PathLike)) and Path(one).is_dir()
        if is_folder and out.resolve().is_relative_to(Path(one).resolve()):
            raise ValueError(f"{out} lies in {one}, which is converted; give a folder beside it")


def _common_classes(sources: dict[str, Source]) -> tuple[str, ...]:
    """Those of the labelled splits. Raises ValueError where these differ, or for names that do not fit files."""
    if not sources:
        raise ValueError("no source is given; give one for each split: {'train': ..., 'val': ...}")
    for name in sources:
        if not re.fullmatch("[A-Za-z0-9_-]+", name):
            raise ValueError(f"split {name!r} is part of files' names; take letters, digits, _ and -")
    labelled = [(name, source) for name, source in sources.items() if source.labelled]
    if not labelled:
        return ()
    (first, source), *others = labelled
    for name, other in others:
        if other.classes != source.classes:
            odd = sorted(set(other.classes) ^ set(source.classes)) or ["their order"]
            raise ValueError(
                f"{first} and {name} differ in classes: {', '.join(odd[:LISTED])}; give both the same, or convert the "
                "splits one by one, by --split (split=...)"
            )
    return source.classes


def _identities(sources: dict[str, Source]) -> dict[str, list[str]]:
    """What messages call each source, and a digest of what it is."""
    return {split: [_named(source), _digest(source)] for split, source in sources.items()}


def _named(source: Source) -> str:
    return source.name if source.size is None else f"{source.name} ({source.size} samples)"


def _digest(source: Source) -> str:
    return hashlib.sha256(json.dumps([source.identity, source.classes]).encode()).hexdigest()
