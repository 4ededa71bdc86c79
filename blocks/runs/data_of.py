"""What a run's weights say of its data: those that a recipe means where it is given nothing else, and their classes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blocks.runs.checkpoint import file_of
from blocks.runs.run import beside


def data_of_run(given: Mapping[str, Any]) -> dict[str, str]:
    """{"data", "val"} of the run whose "weights" are given; {} where data are given too, or the weights are no run's.

    A recipe's defaults: `cli(Recipe, known=data_of_run)`. Raises ValueError, FileNotFoundError for what is no file.
    """
    if not given.get("weights") or "data" in given or "val" in given:
        return {}
    run = beside(file_of(given["weights"]))
    settings = run.settings if run else {}
    return {name: settings[name] for name in ("data", "val") if isinstance(settings.get(name), str)}


def classes_of_run(weights: str | Path) -> tuple[str, ...] | None:
    """The names of the classes that the run of these weights learned; None where nobody knows them."""
    run = beside(weights)
    return run.classes if run else None
