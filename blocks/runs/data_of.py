"""What weights say of the images they learned from: the run in whose folder they lie, or a saved model's metadata."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from blocks.interop.saving import has_own_format, saved_metadata
from blocks.runs.checkpoint import file_of
from blocks.runs.run import Run, beside
from blocks.secrets import lacks_a_secret


def data_of_run(given: Mapping[str, Any]) -> dict[str, str]:
    """{"data", "val"} of the run whose "weights" are given; {} where data are given too, or the weights are no run's.

    A recipe's defaults: `cli(Recipe, known=data_of_run)`. Raises ValueError for a run that names no data, and
    ValueError, FileNotFoundError for what is no file.
    """
    if not given.get("weights") or "data" in given:
        return {}
    run = beside(file_of(given["weights"]))
    return data_named_by(run, given) if run else {}


def data_named_by(run: Run, given: Collection[str] = ()) -> dict[str, str]:
    """{"data", "val"} as a run was given them, without those of them that are `given` now.

    Raises ValueError where the run was not, as its program has them, or where their URLs had a password or token.
    """
    wanted = [name for name in ("data", "val") if name not in given]
    found = {name: run.settings[name] for name in wanted if isinstance(run.settings.get(name), str)}
    if "data" not in found:
        raise ValueError(f"the settings of {run.folder} name no data; give --data")
    closed = [text for text in found.values() if lacks_a_secret(text)]
    if closed:
        raise ValueError(
            f"{run.folder} keeps no password or token, and {' and '.join(closed)} cannot be opened without; give --data"
        )
    return found


def colours_of(weights: str | Path | None) -> dict[str, tuple[float, ...]]:
    """How these weights saw colours: {"mean", "std"} for a loader; {} for a loader's own, where nobody knows them."""
    told = images_of(weights)
    return {name: tuple(told[name]) for name in ("mean", "std") if name in told}


def images_of(weights: str | Path | None) -> Mapping[str, Any]:
    """How these weights saw images: {"transform", "mean", "std", "classes"}, those that are known; {} for none.

    They are those of the run's evaluation, or what `blocks.save(..., metadata=run.metadata)` put into the file.
    """
    if weights is None:
        return {}
    run = beside(weights)
    if run:
        return run.metadata
    return saved_metadata(weights) if has_own_format(Path(weights)) else {}


def classes_of(weights: str | Path) -> tuple[str, ...] | None:
    """The names of the classes that these weights know, by number; None where nobody knows them."""
    names = images_of(weights).get("classes")
    return tuple(names) if names else None
