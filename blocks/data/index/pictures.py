"""Whether a folder holds pictures as they are, not yet in shards."""

import os
from itertools import islice

from blocks.data.decode import EXTENSIONS

LOOKED_AT = 1000  # folders: an answer for a message need not read a whole disk


def has_images(folder: str) -> bool:
    """Whether a picture lies in it, or in one of its first folders below."""
    walk = islice(os.walk(folder), LOOKED_AT)
    return any(name.rpartition(".")[2].lower() in EXTENSIONS for _, _, names in walk for name in names)
