"""What weights say of their own model: in the file that `blocks.save` wrote, or in model.json beside a checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blocks.interop.json_text import mapping_in
from blocks.interop.positions import Grid
from blocks.interop.refit import flat
from blocks.interop.saving import FORMAT, is_safetensors, missing, read

BESIDE = "model.json"  # of a run's folder
SILENT = "does not say its model"


def description_of(weights: str | Path) -> tuple[Mapping[str, Any], Path] | None:
    """(`describe`'s values of the model, the file that has them); None for weights that come without.

    Raises FileNotFoundError for no file, ValueError for a damaged one.
    """
    weights = Path(weights)
    if not weights.is_file():
        raise missing(weights)
    if is_safetensors(weights):
        about = read(weights)[1]
        if about.get("format") != FORMAT:
            return None
        return mapping_in(about.get("model", ""), f"{weights} {SILENT}"), weights
    beside = weights.with_name(BESIDE)
    if not beside.is_file():
        return None
    found = mapping_in(beside.read_text(encoding="utf-8"), f"{beside} {SILENT}")
    if "model" in found and found["model"] is None:  # one that cannot be described
        return None
    if not isinstance(found.get("model"), Mapping):
        raise ValueError(f"{beside} describes no model")
    return found["model"], beside


def grid_of(weights: str | Path) -> Grid | None:
    """The patches along height and width that a described model's positions are for; None where nothing tells."""
    found = description_of(weights)
    values = {} if found is None else flat(found[0])
    for positions in ("trunk.pos_embed", "pos_embed"):
        height, width = (values.get(f"{positions}.grid.{axis}") for axis in (0, 1))
        if isinstance(height, int) and isinstance(width, int):
            return height, width
    return None
