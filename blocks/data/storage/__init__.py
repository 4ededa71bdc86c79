"""Shards from anywhere: fetched with patience, kept in a cache that does not grow without end."""

from blocks.data.storage.retries import FetchError, Retries
from blocks.data.storage.shard_cache import CacheFull, ShardCache

__all__ = ["CacheFull", "FetchError", "Retries", "ShardCache"]
