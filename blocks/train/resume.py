"""Going on from a checkpoint: which one, whether it is of this very run, and what may differ."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor

from blocks.runs import checkpoint
from blocks.train.made import CODE
from blocks.train.state import State
from blocks.tree import flatten

# settings that leave the sequence of batches and updates as it is, and settings that change rounding only
HARMLESS = frozenset({"out", "data", "val", "workers", "num_workers", "log_every", "keep"})
HARMLESS |= {"precision", "accumulate", "compile", "checkpointed", "impl", CODE}

# a schedule is one of all epochs: with others each update was another one
TRAIN_ON = "; to train on, start a new run from its weights: recipes/finetune.py --weights {} --out ANOTHER"


def agree(value: Any, world_size: int) -> Any:
    """The first process's value, on all processes."""
    box = [value]
    if world_size > 1:
        dist.broadcast_object_list(box, src=0)
    return box[0]


def newest(folder: str | Path, world_size: int) -> Path | None:
    """The first process's newest checkpoint. Raises FileNotFoundError on a process that cannot see it."""
    path = agree(checkpoint.latest(folder), world_size)
    if path is not None and not path.is_file():
        raise FileNotFoundError(
            f"{path} is on the first process's machine only; `out` must be one that all machines see"
        )
    return path


def facts(objective: Any, train_data: Any, seed: int, accumulate: int, world_size: int) -> dict[str, Any]:
    """What the updates follow from: the sequence of batches, to which train_data may add `facts` of its own, and where
    the loss compares a micro-batch's images, on which those are.
    """
    known = {"seed": seed, "batch_size": train_data.batch_size, "steps_per_epoch": train_data.steps_per_epoch}
    known |= getattr(train_data, "facts", {})
    if getattr(objective, "compares_images", False):
        known["accumulate"] = accumulate
        if accumulate > 1:  # a micro-batch is made of parts of all processes' shares
            known["world_size"] = world_size
    return known


def check_same_run(saved: Mapping[str, Any], now: Mapping[str, Any], path: str | Path) -> list[str]:
    """Compare {"facts": {...}, "settings": {...}, perhaps "made": {...}} of a checkpoint with this run's.

    Returns the harmless differences, and raises ValueError that lists every other one. What only one of them knows is
    not compared. What a run is made of is told where no fact or setting says why it differs: its code does.
    """
    now = json.loads(json.dumps(now, default=str))  # tuples become lists, as in the file
    facts = _differences(saved["facts"], now["facts"])
    settings = _differences(saved["settings"], now["settings"])
    made = _differences(saved.get("made", {}), now.get("made", {}))
    harmful = facts | _harmful(settings) or _harmful(made)
    if harmful:
        raise ValueError(
            f"{path} is from another run: {'; '.join(harmful.values())}. "
            "Give the values it was started with, or another output folder (--out)"
            + (TRAIN_ON.format(Path(path).parent) if "epochs" in harmful else "")
        )
    return [line for name, line in (settings | made).items() if _is_harmless(name)]


def with_loss_scale(leaves: dict[str, Tensor], state: State) -> dict[str, Tensor]:
    """A checkpoint's leaves with the loss scale that the state wants: its own where the run had another precision."""
    scale = {name: leaf for name, leaf in flatten(state).items() if name.startswith("loss_scale.")}
    return scale | {name: leaf for name, leaf in leaves.items() if not name.startswith("loss_scale.") or name in scale}


def _differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    both = [name for name in saved if name in now and saved[name] != now[name]]
    return {name: f"{name} was {_said(saved[name])}, is {_said(now[name])}" for name in both}


def _harmful(differences: dict[str, str]) -> dict[str, str]:
    return {name: line for name, line in differences.items() if not _is_harmless(name)}


def _is_harmless(name: str) -> bool:
    """Whether what a name with dots says may differ: a field of a block as a setting of that name."""
    return name.rpartition(".")[2] in HARMLESS


def _said(value: Any) -> str:
    """A value for a message: an empty text is to be seen."""
    return str(value) or "''"
