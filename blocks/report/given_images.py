"""Images that are given to a report: shards, or a folder of pictures, which become shards."""

import os
from pathlib import Path
from typing import cast

import numpy as np

from blocks.data import Item, open_shards, write_dataset
from blocks.data.decode import EXTENSIONS
from blocks.data.index.index import Index
from blocks.data.index.patterns import names_folder
from blocks.data.inspect.views import spread_order
from blocks.data.writing.folder import folder_source, split_folders
from blocks.data.writing.iterator import iterator_source
from blocks.data.writing.source import Files
from blocks.report.images import MOST


def given_index(place: str | os.PathLike, folder: str | os.PathLike) -> Index:
    """The images at a place: shards, of several splits "val"; a folder of pictures, with or without sub-folders for
    classes and train/ and val/ above them, of which shards are made in `folder`.

    Raises OSError or ValueError for what is not there or holds no image.
    """
    place = os.path.expanduser(os.fspath(place))
    if os.path.isdir(place) and not _holds_shards(Path(place)):
        return _of_pictures(Path(place), folder)
    if not names_folder(place):
        return open_shards(place, need_labels=False)
    try:
        return open_shards(place, "val", need_labels=False)
    except (FileNotFoundError, ValueError):  # it has no such split
        return open_shards(place, need_labels=False)


def _holds_shards(folder: Path) -> bool:
    return (folder / "index.json").is_file() or any(folder.glob("*.tar*"))


def _of_pictures(root: Path, folder: str | os.PathLike) -> Index:
    items, classes = _pictures(root)
    source = iterator_source(items, classes, str(root))
    write_dataset({"val": source}, folder, workers=0, progress=False, labelled=bool(classes))
    return open_shards(folder, need_labels=False)


def _pictures(root: Path) -> tuple[list[Item], tuple[str, ...]]:
    """(up to MOST items spread over the classes, their names, () without classes)."""
    loose = sorted(path for path in root.iterdir() if path.suffix.lower().removeprefix(".") in EXTENSIONS)
    if loose:
        return [Item(None, path, name=path.name) for path in loose[:MOST]], ()
    folders = split_folders(root, None)
    source = folder_source(folders.get("val", root))
    files = cast(Files, source.items)
    chosen = spread_order(np.asarray(files.labels), 0)[:MOST]
    return [files[number] for number in chosen.tolist()], source.classes
