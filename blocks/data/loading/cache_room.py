"""Whether an order of samples and a cache of shards go together."""

import math
from collections.abc import Iterator

import attrs
import numpy as np

from blocks.data.index.index import Index
from blocks.data.sources import Sources
from blocks.data.storage.shard import CachedShard
from blocks.data.storage.shard_cache import ShardCache


@attrs.frozen
class _Part:
    """What a source has in one cache: samples of the whole source, and bytes."""

    samples: int
    total: float
    largest: float  # shard

    def wanted(self, window: int | None) -> float:
        """Bytes that its order reads at a time; with a window those of this one and of the next."""
        if window is None:
            return self.total
        return min(self.total, 2 * window / self.samples * self.total + 2 * self.largest)


def check_cache(index: Index, window: int | None) -> None:
    """Raises ValueError where the order would have shards fetched or unpacked again and again within an epoch.

    A shuffled epoch reads all shards at once; with a window of samples those of this window and of the next, and each
    source of a mixture has windows of its own.
    """
    for cache in {shard.cache for shard in index.shards if isinstance(shard, CachedShard)}:
        parts, limit = list(_parts(index, cache)), cache.limit()
        wanted = sum(part.wanted(window) for part in parts)
        if wanted > limit:
            raise ValueError(
                f"shuffle_window {window} reads {wanted / 1e9:.3g} GB of remote or packed shards at a time, and their "
                f"cache {cache.folder} may take {limit / 1e9:.3g} GB: they would be fetched again and again; "
                f"{_way_out(parts, limit)} raise VITMASON_CACHE_GB"
            )


def _parts(index: Index, cache: ShardCache) -> Iterator[_Part]:
    sizes = index.sizes if isinstance(index, Sources) else (len(index),)
    here = np.array([isinstance(shard, CachedShard) and shard.cache == cache for shard in index.shards])
    ends = np.cumsum(sizes)
    for samples, stop in zip(sizes, ends.tolist(), strict=True):
        part = slice(stop - samples, stop)
        shards = np.zeros(len(here), np.int64)  # their bytes up to the last sample: a shard is fetched as a whole
        np.maximum.at(shards, index.shard[part], index.offset[part] + index.size[part])
        if shards[here].any():
            yield _Part(samples, float(shards[here].sum()), float(shards[here].max()))


def _way_out(parts: list[_Part], limit: int) -> str:
    """The largest window for which no part needs to be read as a whole."""
    room = limit - 2 * sum(part.largest for part in parts)
    fits = math.floor(room / (2 * sum(part.total / part.samples for part in parts)))
    return f"shuffle_window={fits} fits, or" if fits > 0 else "that is less than a few shards;"
