"""Where the samples of shards lie: from the index beside them, or from one scan of each."""

import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from blocks.data.bars import bytes_bar, progress_bar
from blocks.data.index.files import IndexFiles
from blocks.data.index.format import Entry
from blocks.data.index.places import Place
from blocks.data.index.scan import is_scanned, read_table
from blocks.data.index.spot_check import first_difference
from blocks.data.pool import process_map
from blocks.data.storage.ahead import Ahead
from blocks.data.storage.cache import fingerprint
from blocks.data.storage.fetch import is_http, is_remote, version
from blocks.data.storage.shard import PackedShard, RemoteShard, Shard, is_packed, written
from blocks.data.storage.shard_cache import ShardCache
from blocks.data.storage.source import Version
from blocks.secrets import shown

POOL_FROM = 8  # shards: below, starting processes costs more than it saves
CONNECTIONS = 8  # at a time, while shards are asked for their versions


def open_tables(
    places: list[Place], files: IndexFiles, cache: ShardCache | None
) -> tuple[list[Shard], list[np.ndarray]]:
    """The shard at every place and where its samples lie, int64 [3, n] of offset, size, label.

    A cache of None is ShardCache.from_environment(), where one is needed. Raises ValueError where a shard and the index
    beside it differ.
    """
    tables = [files.rows(place) for place in places]
    shards = _shards(places, tables, files, cache)
    _warn_of_unmarked(shards)
    unknown = [number for number, table in enumerate(tables) if table is None]
    for number, table in zip(unknown, _scan_all([shards[number] for number in unknown]), strict=True):
        _compare(places[number], table, files)
        tables[number] = table
    return shards, tables  # type: ignore[return-value]


def _shards(
    places: list[Place], tables: list[np.ndarray | None], files: IndexFiles, cache: ShardCache | None
) -> list[Shard]:
    make: list[Any] = [partial(_shard, *each, files, cache) for each in zip(places, tables, strict=True)]
    if all(table is not None or not is_remote(place.name) for place, table in zip(places, tables, strict=True)):
        return [one() for one in make]
    with _stopping(ThreadPoolExecutor(CONNECTIONS)) as pool:
        return list(pool.map(lambda one: one(), make))


def _shard(place: Place, table: np.ndarray | None, files: IndexFiles, cache: ShardCache | None) -> Shard:
    entry = None if table is None else files.entry(place)
    sha256 = entry.sha256 if entry else None
    if is_remote(place.name):
        expected = Version(entry.bytes) if entry else version(place.name, files.retries)
        room = cache or ShardCache.from_environment()
        return RemoteShard(shown(place.name), room, files.retries, expected, place.name, sha256=sha256)
    if entry is not None:
        _compare_bytes(place, entry, files)
    if is_packed(place.name):
        room = cache or ShardCache.from_environment()
        return PackedShard(place.name, room, fingerprint(place.name), sha256=sha256)
    shard = Shard(place.name, sha256=sha256, written=written(os.stat(place.name)))
    if table is not None:
        _compare_samples(place, table, files)
    return shard


def _warn_of_unmarked(shards: list[Shard]) -> None:
    """Of a pipe that is known: it is taken to give the same bytes at every run."""
    remote = [shard for shard in shards if isinstance(shard, RemoteShard) and is_http(shard.url)]
    unmarked = [shard.name for shard in remote if shard.expected == Version() and shard.sha256 is None]
    if unmarked:
        warnings.warn(
            f"{unmarked[0]} (the first of {len(unmarked)}): its server tells neither length, ETag nor time of it, so "
            "that the copy in the cache is read even when there is another one by now; put an index.json beside the "
            "shards, or empty the cache when they change",
            stacklevel=5,  # whoever opens the shards
        )


def _scan_all(shards: list[Shard]) -> Iterator[np.ndarray]:
    """In their order. Local tars in processes, since it is Python's work; others in threads, since it is the line's."""
    if any(isinstance(shard, RemoteShard) for shard in shards):
        yield from _fetch_and_scan(shards)
        return
    workers = min(len(shards), os.cpu_count() or 1) if len(shards) >= POOL_FROM else 0
    with progress_bar(visible=len(shards) >= POOL_FROM) as bar:
        yield from bar.track(process_map(read_table, shards, workers), len(shards), description="reading shards")


def _fetch_and_scan(shards: list[Shard]) -> Iterator[np.ndarray]:
    new = {i: shard for i, shard in enumerate(shards) if isinstance(shard, RemoteShard) and not is_scanned(shard)}
    sizes = [shard.expected.bytes for shard in new.values()]
    with bytes_bar(visible=bool(new)) as bar:
        total = sum(size for size in sizes if size is not None) if None not in sizes else None
        task = bar.add_task(f"fetching {len(new)} shards", total=total)
        ahead = Ahead(lambda number: _fetch(new[number], lambda size: bar.advance(task, size)))
        ahead.want(new)
        try:
            for number, shard in enumerate(shards):
                ahead.wait_for(number)
                yield read_table(shard)
        finally:
            ahead.close()


def _fetch(shard: RemoteShard, report: Callable[[int], object]) -> None:
    """Also what another process fetched, or had, is reported."""
    arrived = 0

    def count(size: int) -> None:
        nonlocal arrived
        arrived += size
        report(size)

    shard.fetch(count)
    report((shard.expected.bytes or arrived) - arrived)


@contextmanager
def _stopping(pool: ThreadPoolExecutor) -> Iterator[ThreadPoolExecutor]:
    """After the first failure nothing more is begun."""
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _compare(place: Place, table: np.ndarray, files: IndexFiles) -> None:
    entry, index = files.entry(place), files.at(place.folder)
    if entry is not None and index is not None and table.shape[1] != entry.samples:
        raise ValueError(
            f"{place.name} holds {table.shape[1]} samples, {index.path} says {entry.samples}; fetch or write it again"
        )


def _compare_bytes(place: Place, entry: Entry, files: IndexFiles) -> None:
    index, found = files.at(place.folder), os.path.getsize(place.name)
    if index is not None and found != entry.bytes:
        raise ValueError(f"{place.name} has {found} bytes, {index.path} says {entry.bytes}; fetch or write it again")


def _compare_samples(place: Place, table: np.ndarray, files: IndexFiles) -> None:
    index = files.at(place.folder)
    if index is not None and (difference := first_difference(place.name, table)):
        raise ValueError(
            f"{place.name} is not the shard that {index.path} was written with: {difference}; fetch or write both "
            f"again, or delete {index.path}: the shards are then scanned"
        )
