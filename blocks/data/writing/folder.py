"""Image folders: one sub-folder per class, any depth below it."""

import os
from collections.abc import Iterator
from pathlib import Path

from blocks.data.decode import EXTENSIONS
from blocks.data.writing.source import Files, Source

SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")  # as others call theirs


def split_folders(root: Path, split: str | None) -> dict[str, Path]:
    """The folders to convert by split: train/ and val/ if the root has both, else the root itself.

    Raises ValueError for a root of splits by other names, or without classes, which would become its classes.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder")
    both = {name: root / name for name in ("train", "val")}
    if not all(_sub_folders(path) for path in both.values()):
        _refuse_splits(root)
        return {split or "train": root}
    if split is not None and split not in both:
        raise ValueError(f"{root} has train/ and val/; split {split} is neither")
    return both if split is None else {split: both[split]}


def _refuse_splits(root: Path) -> None:
    found = [name for name in _sub_folders(root) if name.lower() in SPLITS]
    with_classes = [name for name in found if _sub_folders(root / name)]
    if len(found) > 1 and with_classes:
        raise ValueError(
            f"{root} has {' and '.join(found)}, which are splits and no classes; call them train and val, with class "
            f"folders in each, or give one of them: {root / with_classes[0]}"
        )


def folder_source(root: str | os.PathLike) -> Source:
    """The images of a folder, bytes unchanged. Raises ValueError if it has no class folders or no images in them."""
    root = Path(root)
    classes = _sub_folders(root)
    if not classes:
        raise ValueError(f"{root} has no class folders; images of class cat belong into {root}/cat")
    images, ignored = [], [entry.name for entry in os.scandir(root) if not entry.is_dir()]
    for label, name in enumerate(classes):
        for path in _files(root, name):
            if path.rpartition(".")[2].lower() in EXTENSIONS and "/." not in path:  # hidden, or in a hidden folder
                images.append((path, label))
            else:
                ignored.append(path)
    if not images:
        raise ValueError(f"{root} has {len(classes)} class folders and no image ({', '.join(EXTENSIONS)}) in them")
    files = Files(root, *zip(*sorted(images), strict=True))
    return Source(str(root), files, tuple(classes), files.identity(), tuple(sorted(ignored)))


def _sub_folders(root: Path) -> list[str]:
    if not root.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))


def _files(root: Path, folder: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Files below a folder of the root, through links too, as torchvision's ImageFolder, but not in circles."""
    here = os.path.realpath(root / folder)
    if here in above:
        return
    for entry in os.scandir(root / folder):
        path = f"{folder}/{entry.name}"
        yield from _files(root, path, (*above, here)) if entry.is_dir() else [path]
