"""Which source a thing is."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from blocks.data.writing.dataset import dataset_source
from blocks.data.writing.folder import folder_source, split_folders
from blocks.data.writing.iterator import iterator_source
from blocks.data.writing.listing import SUFFIXES, list_source
from blocks.data.writing.source import Source


def source_of(thing: Any, labelled: bool = True) -> Source:
    """The source of an image folder or a list (by path), a map-style dataset, or an iterable of items; or of their
    pictures alone.
    """
    if isinstance(thing, Source):
        return thing if labelled else attrs.evolve(thing, labelled=False, classes=())
    if isinstance(thing, (str, os.PathLike)):
        return list_source(thing, labelled) if _is_list(Path(thing)) else folder_source(thing, labelled)
    if hasattr(thing, "__getitem__") and hasattr(thing, "__len__") and not isinstance(thing, (list, tuple)):
        return dataset_source(thing, labelled)
    if isinstance(thing, Iterable):
        return iterator_source(thing, labelled=labelled)
    raise ValueError(
        f"a {type(thing).__name__} is no source of samples; give an image folder, a list ({', '.join(SUFFIXES)}), "
        "a map-style dataset, or an iterable of (key, image, label, metadata)"
    )


def sources_of(thing: Any, split: str | None, labelled: bool = True) -> dict[str, Source]:
    """The sources by split, "train" if None: those of a mapping, of a folder with train/ and val/, or a single one."""
    if isinstance(thing, Mapping):
        if split is not None:
            raise ValueError(f"split {split!r} is given, and the sources say theirs: {', '.join(thing)}; leave it out")
        return {name: source_of(one, labelled) for name, one in thing.items()}
    if isinstance(thing, (str, os.PathLike)) and not _is_list(Path(thing)):
        folders = split_folders(Path(thing), split, labelled)
        return {name: folder_source(path, labelled) for name, path in folders.items()}
    return {split or "train": source_of(thing, labelled)}


def _is_list(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.is_dir()
