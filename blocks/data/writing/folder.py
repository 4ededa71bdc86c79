"""Image folders: one sub-folder per class, any depth below it; or pictures without labels, anywhere."""

import os
from collections.abc import Iterator
from pathlib import Path

from blocks.data.decode import EXTENSIONS
from blocks.data.writing.source import Files, Source

SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")  # as others call theirs


def split_folders(root: Path, split: str | None, labelled: bool = True) -> dict[str, Path]:
    """The folders to convert by split: train/ and val/ if the root has both, else the root itself; without labels the
    one of several that is named, else the root.

    Raises ValueError for a root of splits by other names, or without classes, which would become its classes; without
    labels for any root of splits, which would be mixed.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder")
    if not labelled:
        if split in SPLITS and len(_splits_in(root)) > 1 and (root / split).is_dir():
            return {split: root / split}
        _refuse_splits(root, labelled)
        return {split or "train": root}
    both = {name: root / name for name in ("train", "val")}
    if not all(_sub_folders(path) for path in both.values()):
        _refuse_splits(root, labelled)
        return {split or "train": root}
    if split is not None and split not in both:
        raise ValueError(f"{root} has train/ and val/; split {split} is neither")
    return both if split is None else {split: both[split]}


def _refuse_splits(root: Path, labelled: bool) -> None:
    found = _splits_in(root)
    usable = [name for name in found if not labelled or _sub_folders(root / name)]
    if len(found) > 1 and usable:
        why = (
            "and no classes; call them train and val, with class folders in each, or" if labelled else "to keep apart;"
        )
        raise ValueError(
            f"{root} has {' and '.join(found)}, which are splits {why} give one of them: {root / usable[0]}"
        )


def _splits_in(root: Path) -> list[str]:
    return [name for name in _sub_folders(root) if name.lower() in SPLITS]


def folder_source(root: str | os.PathLike, labelled: bool = True) -> Source:
    """The images of a folder, bytes unchanged; their labels are its sub-folders, unless they are to have none.

    Raises ValueError if it has no class folders, or no images.
    """
    root = Path(root)
    folders = _sub_folders(root)
    if labelled and not folders:
        raise ValueError(
            f"{root} has no class folders; images of class cat belong into {root}/cat; for images without labels give "
            "--unlabelled (labelled=False)"
        )
    loose = [entry.name for entry in os.scandir(root) if not entry.is_dir()]
    found = [(path, number) for number, name in enumerate(folders) for path in _files(root, name)]
    found += [] if labelled else [(name, 0) for name in loose]
    images = [each for each in found if _is_image(each[0])]
    ignored = [path for path, _ in found if not _is_image(path)] + (loose if labelled else [])
    if not images:
        where = f" in its {len(folders)} class folders" if labelled else ""
        raise ValueError(f"{root} has no image ({', '.join(EXTENSIONS)}){where}")
    paths, labels = zip(*sorted(images), strict=True)
    files, classes = (Files(root, paths, labels), tuple(folders)) if labelled else (Files(root, paths), ())
    return Source(str(root), files, classes, files.identity(), tuple(sorted(ignored)), labelled)


def _is_image(path: str) -> bool:
    """By its name; what is hidden, or in a hidden folder, is none."""
    return path.rpartition(".")[2].lower() in EXTENSIONS and "/." not in f"/{path}"


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
