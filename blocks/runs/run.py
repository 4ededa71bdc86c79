"""A run's folder, read: its settings, environment, metrics, model and params."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import attrs

from blocks import random, tree
from blocks.block import Block, Params
from blocks.interop.construction import TRUSTED, build
from blocks.interop.layouts import Which, weights_of
from blocks.runs import checkpoint, folder, records
from blocks.runs.json_file import read_json
from blocks.runs.records import Record

UNDESCRIBED = (
    "does not describe its model, which holds what no file can, such as an nn.Module of another library or a function; "
    "build the model as the recipe does"
)


@attrs.frozen(eq=False)
class Run:
    """A run as its folder tells it; `Run.open(folder)` reads one, also while it trains.

    `settings` are the recipe's fields, `facts` what the batches follow from (seed, batch_size, steps_per_epoch ...),
    `records` the lines of metrics.jsonl, `attention` those of attention.jsonl.
    """

    folder: Path
    recipe: str | None
    command: tuple[str, ...]
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]
    changed: tuple[Mapping[str, Any], ...]  # on resuming: {"date", "step", "command", "changes"}
    environment: Mapping[str, Any]
    images: Mapping[str, Any]  # {"train", "val"}: what its loaders showed (`blocks.data.seen`)
    records: tuple[Record, ...]
    attention: tuple[Record, ...]

    @classmethod
    def open(cls, place: str | Path) -> Self:
        """The run in a folder. Raises FileNotFoundError for no folder, ValueError for one that no run wrote."""
        place = Path(place)
        if not place.is_dir():
            raise FileNotFoundError(f"no run's folder at {place}")
        about = read_json(place / folder.SETTINGS)
        if about:
            _check_about(about, place / folder.SETTINGS)
        else:
            about = _about(place)
        return cls(
            folder=place,
            recipe=about.get("recipe"),
            command=tuple(about.get("command", ())),
            settings=about["settings"],
            facts=about["facts"],
            changed=tuple(about.get("changed", ())),
            environment=read_json(place / folder.ENVIRONMENT),
            images={**_images_of(about["settings"]), **read_json(place / folder.IMAGES)},
            records=tuple(records.read(place / "metrics.jsonl")),
            attention=tuple(records.read(place / "attention.jsonl")),
        )

    @property
    def epochs(self) -> tuple[Record, ...]:
        """The records of finished epochs."""
        return tuple(record for record in self.records if record["kind"] == "epoch")

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes that it learned, by number; None where its shards had none."""
        names = self.images.get("train", {}).get("classes")
        return tuple(names) if names else None

    @property
    def metadata(self) -> dict[str, Any]:
        """How its evaluation saw images, and its classes: what `blocks.save` and `to_onnx` take beside a model."""
        seen = self.images.get("val", {})
        known = {name: seen[name] for name in ("transform", "mean", "std") if name in seen}
        return known | ({"classes": list(self.classes)} if self.classes else {})

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps of which there is a checkpoint, oldest first."""
        return tuple(checkpoint.steps(self.folder))

    def model(self, trusted: Sequence[str] = TRUSTED) -> Block:
        """The model that was trained. Raises ValueError where the folder does not say which."""
        found = self._model_file()["model"]
        if found is None:
            raise ValueError(f"{self.folder} {UNDESCRIBED}")
        return build(found, trusted)

    def params(self, which: Which = "params", *, step: int | None = None) -> Params:
        """The model's params on the CPU, those of the newest checkpoint or of a step's; their "ema", or a "teacher".

        Where no model is described, all params. Raises ValueError for what the run did not keep.
        """
        leaves = weights_of(self._checkpoint(step), which).leaves
        names = read_json(self.folder / folder.MODEL).get("params", list(leaves))
        missing = [name for name in names if name not in leaves]
        if missing:
            raise ValueError(f"{which!r} of {self.folder} are no params of its model: {missing[:4]} are not there")
        return tree.unflatten({name: leaves[name].clone() for name in names})

    def objective_params(self, *, step: int | None = None) -> Params:
        """What the objective trains beside the model: prototypes, a predictor, a decoder, probes; {} for none."""
        leaves = weights_of(self._checkpoint(step), "params").leaves
        names = set(self._model_file()["params"])
        return tree.unflatten({name: leaf.clone() for name, leaf in leaves.items() if name not in names})

    def fresh_params(self, model: Block | None = None) -> Params:
        """The model's params before the first step, on the CPU: those given to the run, else anew from its seed.

        `model` is wanted where the folder does not describe it. A run on a GPU drew them there, which may differ in the
        last bit.
        """
        start = self.folder / folder.START
        if start.is_file():
            leaves = weights_of(start).leaves
            names = read_json(self.folder / folder.MODEL).get("params", list(leaves))
            return tree.unflatten({name: leaves[name].clone() for name in names})
        return (model or self.model()).init(random.split(random.key(self.facts["seed"]))[0])

    def _model_file(self) -> dict[str, Any]:
        found = read_json(self.folder / folder.MODEL)
        if not found:
            raise ValueError(
                f"{self.folder} has no {folder.MODEL}: its model is no block, or the run is older than this file; "
                "build the model as the recipe does"
            )
        return found

    def _checkpoint(self, step: int | None) -> Path:
        known = checkpoint.steps(self.folder)
        if not known or (step is not None and step not in known):
            wanted = "" if step is None else f" of step {step}"
            raise ValueError(f"{self.folder} has no checkpoint{wanted}; it has those of steps {list(known)}")
        return known[max(known) if step is None else step]


def _about(place: Path) -> dict[str, Any]:
    """The settings and facts in a checkpoint, of a run that wrote no settings.json."""
    newest = checkpoint.latest(place)
    if newest is None:
        raise ValueError(f"{place} is no run's folder: it has neither {folder.SETTINGS} nor a checkpoint")
    about = checkpoint.read(newest)[1]
    _check_about(about, newest)
    return about


def _images_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """How images were cut, of a run that did not note it, by the names that this library's recipes have for it."""
    cut = {name: settings[name] for name in ("img_size", "crop_pct") if settings.get(name)}
    return {"val": {"transform": cut}} if "img_size" in cut else {}


def beside(weights: str | Path) -> Run | None:
    """The run in whose folder these weights lie; None for those of no run. Raises ValueError for a damaged one's."""
    place = Path(weights).parent
    try:
        ours = read_json(place / folder.SETTINGS).keys() >= {"settings", "facts"}
    except ValueError:
        if checkpoint.latest(place):
            raise
        return None  # another program's, an editor's with comments
    return Run.open(place) if ours else None


KINDS = {"settings": dict, "facts": dict, "command": list, "changed": list}


def _check_about(about: dict[str, Any], file: Path) -> None:
    """Raises ValueError for what is not a run's settings and facts."""
    missing = [name for name in ("settings", "facts") if name not in about]
    wrong = [name for name, kind in KINDS.items() if not isinstance(about.get(name, kind()), kind)]
    if missing or wrong:
        said = [f"has no {name}" for name in missing]
        said += [f"says {name} {about[name]!r}, no {KINDS[name].__name__}" for name in wrong]
        raise ValueError(f"{file} {' and '.join(said)}: no run wrote it; open another folder, or mend it")
