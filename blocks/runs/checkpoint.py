"""Checkpoints: the whole state, one file a step, `out/step-00001234.pt`; a kill at any moment leaves the last good one.

A file holds {"state": {dotted name: tensor}, "about": JSON}. It loads with `torch.load(weights_only=True)` anywhere.
"""

import json
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blocks import tree
from blocks.durable import is_intact, replace
from blocks.secrets import shown

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # a Path of one has a slash less
NAME = re.compile(r"step-(\d{8,})\.pt")
CLASSIFIER = "classifier.pth"  # what a linear probe leaves beside its checkpoints
SHOWN = 4  # entries of each kind that an error lists


def save(folder: str | Path, state: tree.Tree, step: int, about: dict[str, Any], *, keep: int = 2) -> Path:
    """Write `folder/step-<step>.pt` and keep the newest `keep`. Call it on one process only. `about` is JSON-able."""
    if keep < 1:
        raise ValueError(f"keep {keep} would delete the checkpoint just written; use 1 or more")
    folder = Path(folder)
    target = path(folder, step)
    write(target, state, about)
    _clean(folder, step, keep)
    return target


def write(path: Path, state: tree.Tree, about: dict[str, Any]) -> None:
    """Write one file of a checkpoint's form, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    leaves = {name: _whole(leaf) for name, leaf in tree.flatten(state).items()}
    _write_atomically(path, {"state": leaves, "about": json.dumps(about, default=str)})


def path(folder: str | Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return Path(folder) / f"step-{step:08d}.pt"


def steps(folder: str | Path) -> dict[int, Path]:
    """The checkpoints in a folder by step, oldest first; {} if there is no such folder."""
    folder = Path(folder)
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    found = {int(match[1]): folder / match[0] for match in map(NAME.fullmatch, names) if match}
    return dict(sorted(found.items()))


def latest(folder: str | Path) -> Path | None:
    """The newest checkpoint in a folder, None if there is none."""
    return next(reversed(steps(folder).values()), None)


def file_of(place: str | Path) -> Path:
    """The checkpoint that is meant by a file's name, or by that of a run's folder: its newest.

    Raises ValueError for no name and for a URL, FileNotFoundError for one where none is.
    """
    if not str(place):
        raise ValueError("no checkpoint is named; give a file, or a run's folder (--weights)")
    if URL.match(str(place)):
        raise ValueError(f"{shown(str(place))} is a URL; download it first, and give the file (--weights)")
    path = latest(place) or Path(place)
    if path.is_dir():
        raise FileNotFoundError(f"no checkpoint in {path}; give the folder of a run that has one, or a file")
    return path


def classifier_of(place: str | Path) -> Path:
    """As `file_of`, but of a linear probe's folder the trunk with its best head."""
    path = Path(place) / CLASSIFIER
    return path if path.is_file() else file_of(place)


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(state by dotted name, memory-mapped on the CPU; about).

    Raises FileNotFoundError, and ValueError for a damaged file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    if not is_intact(path):
        raise ValueError(f"checkpoint {path} is damaged (truncated or corrupt). {_way_out(path)}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, ValueError, pickle.UnpicklingError) as error:  # it asks more of an archive's headers
        raise ValueError(f"checkpoint {path} is damaged, or not of this library. {_way_out(path)}") from error
    if not isinstance(content, dict) or content.keys() != {"state", "about"}:
        raise ValueError(f"{path} is not a checkpoint of this library: it lacks the entries 'state' and 'about'")
    return content["state"], json.loads(content["about"])


def fit(leaves: dict[str, Tensor], template: tree.Tree, path: str | Path) -> tree.Tree:
    """Copies of the leaves as a tree with the template's structure, types and devices.

    Raises ValueError that names what is missing, unexpected, or of another shape or type.
    """
    wanted = tree.flatten(template)
    problems = _differences(wanted, leaves)
    if problems:
        raise ValueError(
            f"{path} is the checkpoint of another model: {'; '.join(problems)}. "
            "Give the settings it was trained with, or another output folder"
        )
    return tree.like(template, {name: leaves[name].to(leaf.device, copy=True) for name, leaf in wanted.items()})


def load(path: str | Path, template: tree.Tree) -> tuple[tree.Tree, dict[str, Any]]:
    """(state like the template, about). Raises what `read` and `fit` do."""
    leaves, about = read(path)
    return fit(leaves, template, path), about


def _way_out(path: Path) -> str:
    names = steps(path.parent).values()
    older = [p for p in names if _step(p) < _step(path) and is_intact(p)]
    if older:
        return f"The one before it is whole: {older[-1].name}; delete the damaged file to go on from there"
    return "There is no whole one before it: delete it to start from the beginning"


def _step(path: Path) -> int:
    match = NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def _differences(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> list[str]:
    missing = [f"{n} {list(t.shape)}" for n, t in wanted.items() if n not in found]
    unexpected = [f"{n} {list(t.shape)}" for n, t in found.items() if n not in wanted]
    both = [(n, t, found[n]) for n, t in wanted.items() if n in found]
    same = [(n, w, f) for n, w, f in both if w.shape == f.shape]
    shapes = [f"{n} {list(f.shape)} in the file, {list(w.shape)} here" for n, w, f in both if w.shape != f.shape]
    types = [f"{n} {f.dtype} in the file, {w.dtype} here" for n, w, f in same if w.dtype != f.dtype]
    kinds = {"not in the file": missing, "only in the file": unexpected, "other shape": shapes, "other type": types}
    return [f"{kind}: {_some(lines)}" for kind, lines in kinds.items() if lines]


def _some(lines: list[str]) -> str:
    rest = len(lines) - SHOWN
    return ", ".join(lines[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _whole(leaf: Tensor) -> Tensor:
    """The leaf on the CPU, with a storage no larger than itself: torch.save writes whole storages, of views too."""
    leaf = leaf.detach().cpu()
    return leaf if leaf.untyped_storage().nbytes() == leaf.nbytes else leaf.clone()


def _write_atomically(path: Path, content: dict[str, Any]) -> None:
    """Write beside the target, flush to the disk, rename: the target is absent or whole, never half of it.

    Raises OSError where that fails, most often for a full disk, and leaves no half behind to keep it full.
    """
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)  # a killed run's may be another name of a whole one
    try:
        with open(temporary, "wb") as file:
            torch.save(content, file)
        replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch's own where it cannot write its archive's end
        temporary.unlink(missing_ok=True)
        needed, free = sum(t.nbytes for t in content["state"].values()), shutil.disk_usage(path.parent).free
        raise OSError(
            f"{path} could not be saved ({error}): it takes {needed / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB are free. "
            "Make room; the checkpoints before it are whole"
        ) from error


def _clean(folder: Path, step: int, keep: int) -> None:
    """Delete all but the newest `keep` up to `step`, and what a killed save left behind."""
    for path in folder.glob("step-*.tmp"):
        path.unlink(missing_ok=True)
    older = [path for number, path in steps(folder).items() if number <= step]
    for path in older[:-keep]:
        path.unlink(missing_ok=True)
