"""Whether an order of samples and a cache of shards go together."""

import math

import numpy as np

from blocks.data.index.index import Index
from blocks.data.storage.shard import CachedShard


def check_cache(index: Index, window: int | None) -> None:
    """Raises ValueError where the order would have shards fetched or unpacked again and again within an epoch.

    A shuffled epoch reads all shards at once; with a window of samples those of this window and of the next.
    """
    caches = {shard.cache for shard in index.shards if isinstance(shard, CachedShard)}
    cached = [isinstance(shard, CachedShard) for shard in index.shards]
    sizes = np.bincount(index.shard, weights=index.size, minlength=len(cached))[cached]
    if not caches or not sizes.any():
        return
    cache, total = caches.pop(), float(sizes.sum())
    wanted, limit = total, cache.limit()
    if window is not None:
        wanted = min(total, 2 * window / len(index) * total + 2 * float(sizes.max()))
    if wanted > limit:
        fits = math.floor((limit - 2 * float(sizes.max())) / (2 * total) * len(index))
        way = f"shuffle_window={fits} fits, or" if fits > 0 else "that is less than a few shards;"
        raise ValueError(
            f"shuffle_window {window} reads {wanted / 1e9:.3g} GB of remote or packed shards at a time, and their "
            f"cache {cache.folder} may take {limit / 1e9:.3g} GB: they would be fetched again and again; {way} raise "
            "VITMASON_CACHE_GB"
        )
