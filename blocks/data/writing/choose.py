"""Which source a thing is."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from blocks.data.writing.dataset import dataset_source
from blocks.data.writing.folder import folder_source
from blocks.data.writing.iterator import iterator_source
from blocks.data.writing.listing import SUFFIXES, list_source
from blocks.data.writing.source import Source


def source_of(thing: Any) -> Source:
    """The source of an image folder or a list (by path), a map-style dataset, or an iterable of items."""
    if isinstance(thing, Source):
        return thing
    if isinstance(thing, (str, os.PathLike)):
        return list_source(thing) if is_list(Path(thing)) else folder_source(thing)
    if hasattr(thing, "__getitem__") and hasattr(thing, "__len__") and not isinstance(thing, (list, tuple, dict)):
        return dataset_source(thing)
    if isinstance(thing, Iterable) and not isinstance(thing, dict):
        return iterator_source(thing)
    raise ValueError(
        f"a {type(thing).__name__} is no source of samples; give an image folder, a list ({', '.join(SUFFIXES)}), "
        "a map-style dataset, or an iterable of (key, image, label, metadata)"
    )


def is_list(path: Path) -> bool:
    """Whether a path names a list of images, and no folder."""
    return path.suffix.lower() in SUFFIXES and not path.is_dir()
