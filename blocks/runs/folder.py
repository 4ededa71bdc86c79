"""What a run writes about itself before it takes a step.

settings.json     {"recipe", "command", "settings": {field: value}, "facts": what the batches follow from,
                  "changed": [{"date", "step", "command", "changes"}] of resumed runs}
environment.json  `environment`'s, and "resumed": [the same of every later start]
images.json       {"train", "val"}: which images it saw, and how they were cut (`blocks.data.seen`)
model.json        {"model": `describe`'s or null, "params": [the dotted names of the model's own]}
start.pt          the params that the run was given to start from; no file where they came from the seed

best.pt, the checkpoint of the best epoch so far, lies beside the newest ones where the run was told what is good.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from blocks import random, tree
from blocks.block import Block
from blocks.interop.construction import describe
from blocks.interop.described import BESIDE
from blocks.runs import best, checkpoint
from blocks.runs.environment import now
from blocks.runs.json_file import read_json, write_json
from blocks.secrets import without_secrets

SETTINGS, ENVIRONMENT, MODEL, START = "settings.json", "environment.json", BESIDE, "start.pt"
IMAGES = "images.json"
SMALL = 2_000_000  # params that are drawn in less time than PyTorch takes to load its meta device, seconds
FILES = (SETTINGS, ENVIRONMENT, IMAGES, MODEL, START, "metrics.jsonl", "attention.jsonl", "wandb.json", best.NAME)


@attrs.frozen
class About:
    """What a run is: the recipe's name, the command line, the recipe's fields, and what its batches follow from."""

    recipe: str | None = None
    command: Sequence[str] = ()
    settings: Mapping[str, Any] = attrs.field(factory=dict)
    facts: Mapping[str, Any] = attrs.field(factory=dict)


def is_run(folder: str | Path) -> bool:
    """Whether a run wrote into this folder, with a checkpoint or without."""
    return checkpoint.latest(folder) is not None or any((Path(folder) / name).is_file() for name in FILES)


def strangers(folder: str | Path) -> list[str]:
    """Files with the names of a run's where none wrote its settings: somebody else's."""
    settings = read_json(Path(folder) / SETTINGS)
    ours = settings.keys() >= attrs.fields_dict(About).keys()
    return [] if ours else [name for name in FILES if (Path(folder) / name).is_file()]


def best_epoch(folder: str | Path) -> str | None:
    """The checkpoint of a run's best epoch, if there is one."""
    path = Path(folder) / best.NAME
    return str(path) if path.is_file() else None


def begin(
    folder: str | Path,
    about: About,
    environment: Mapping[str, Any],
    *,
    model: Any = None,
    params: tree.Tree | None = None,
    start: tree.Tree | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """The files of a run that begins at step 0, in place of any that a run without checkpoint left here.

    `params` are the objective's, the model's among them; `start` what was given in place of fresh ones, if it was.
    """
    folder = Path(folder)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    write_json(folder / SETTINGS, {**attrs.asdict(about), "changed": []})
    write_json(folder / ENVIRONMENT, {**environment, "resumed": []})
    _write_model(folder / MODEL, model, params or {}, say)
    if start is not None:
        checkpoint.write(folder / START, {"params": start}, {"facts": about.facts, "settings": about.settings})


def go_on(
    folder: str | Path, about: About, environment: Mapping[str, Any], step: int, changes: Sequence[str] = ()
) -> None:
    """Note that a run goes on from a step, and which harmless settings changed."""
    folder = Path(folder)
    settings, before = read_json(folder / SETTINGS), read_json(folder / ENVIRONMENT)
    settings = settings or {**attrs.asdict(about), "changed": []}
    change = {"date": now(), "step": step, "command": list(about.command), "changes": list(changes)}
    settings["changed"] = [*settings.get("changed", []), *([change] if changes else [])]
    write_json(folder / SETTINGS, settings)
    later = [*before.get("resumed", []), dict(environment)] if before else []
    write_json(folder / ENVIRONMENT, {**(before or environment), "resumed": later})


def note_images(folder: str | Path, images: Mapping[str, Any]) -> None:
    """Note what the run's loaders show, {"train", "val"}, in place of what was noted: its data may have moved."""
    if images:
        write_json(Path(folder) / IMAGES, without_secrets(images))


def _write_model(path: Path, model: Any, params: tree.Tree, say: Callable[[str], None]) -> None:
    if not isinstance(model, Block):
        return
    try:
        description = describe(model)
    except ValueError as error:
        say(f"{path.name} will not describe the model, which others must build themselves: {error}")
        description = None
    device = "cpu" if tree.count(params) < SMALL else "meta"
    names = list(tree.flatten(model.init(random.key(0, device))))
    write_json(path, {"model": description, "params": names})
