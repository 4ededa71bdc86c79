"""What a shard's samples are called and hold, for messages: those are made of what there is, and raise nothing."""

import contextlib
import functools
import os

from blocks.data.index.scan import sample_files, sample_keys
from blocks.data.printable import printable
from blocks.data.storage.shard import Shard

MOST_FILES = 5


def key_of(shard: Shard, offset: int) -> str | None:
    """The key of the sample at this offset; None where the tar is not here or cannot be read."""
    with contextlib.suppress(OSError):
        if path := shard.here():
            return _keys(path, shard.identity()).get(offset)
    return None


def files_of(shard: Shard, offset: int) -> list[str]:
    """The names of that sample's first files, without folders; none where the tar is not here or cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        if path := shard.here():
            return [printable(os.path.basename(name)) for name in sample_files(path, offset)[:MOST_FILES]]
    return []


@functools.lru_cache(maxsize=4)
def _keys(path: str, identity: str) -> dict[int, str]:
    """The keys of a tar with this identity: written anew, it has others. Damage, too, is found once."""
    try:
        return sample_keys(path)
    except (OSError, ValueError):
        return {}
