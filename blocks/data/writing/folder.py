"""Image folders: one sub-folder per class, any depth below it; or pictures without labels, anywhere."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from blocks.data.decode import EXTENSIONS
from blocks.data.writing.source import Files, Source

SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")  # as others call theirs
OURS = ("train", "val", "test")
ARCHIVED = "__MACOSX"  # what a Mac adds to an archive


def split_folders(root: Path, split: str | None, labelled: bool = True) -> dict[str, Path]:
    """The folders to convert by split: the one that is named; train/ and val/ if the root has both, and test/ if it is
    there; else the root itself. With labels a split is a folder of class folders. Without, train/ alone is converted:
    what a model is judged on is not for its pretraining.

    Raises ValueError for a root of splits by other names, or without classes, which would become its classes, or would
    be mixed.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder")
    found = _splits_in(root)
    usable = [name for name in found if not labelled or _sub_folders(root / name)]
    if split in usable and len(found) > 1:
        return {split: root / split}
    if not labelled and split is None and "train" in usable and len(found) > 1:
        return {"train": root / "train"}
    if not labelled or not {"train", "val"} <= set(usable):
        _refuse_splits(root, found, usable, labelled)
        return {split or "train": root}
    if split is not None:
        raise ValueError(f"{root} has class folders in {', '.join(usable)}; split {split} is none of them")
    return {name: root / name for name in OURS if name in usable}


def left_out(root: Path, splits: Collection[str]) -> list[str]:
    """What else lies in a root of splits, by name."""
    files = [entry.name for entry in os.scandir(root) if not entry.is_dir() and not entry.name.startswith(".")]
    return sorted([f"{name}/" for name in _sub_folders(root) if name not in splits] + files)


def _refuse_splits(root: Path, found: list[str], usable: list[str], labelled: bool) -> None:
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
    """Those that may be classes: neither hidden nor of an archive's making."""
    if not root.is_dir():
        return []
    folders = [entry.name for entry in os.scandir(root) if entry.is_dir()]
    return sorted(name for name in folders if not name.startswith(".") and name != ARCHIVED)


def _files(root: Path, folder: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Files below a folder of the root, through links too, as torchvision's ImageFolder, but not in circles."""
    here = os.path.realpath(root / folder)
    if here in above:
        return
    for entry in os.scandir(root / folder):
        path = f"{folder}/{entry.name}"
        yield from _files(root, path, (*above, here)) if entry.is_dir() else [path]
