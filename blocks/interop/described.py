"""What weights say of their own model: in the file that `blocks.save` wrote, or in model.json beside a checkpoint."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blocks.interop.saving import FORMAT, is_safetensors, missing, read

BESIDE = "model.json"  # of a run's folder


def description_of(weights: str | Path) -> tuple[Mapping[str, Any], Path] | None:
    """(`describe`'s values of the model, the file that has them); None for weights that come without.

    Raises FileNotFoundError for no file, ValueError for a damaged one.
    """
    weights = Path(weights)
    if not weights.is_file():
        raise missing(weights)
    if is_safetensors(weights):
        about = read(weights)[1]
        return (_parsed(about.get("model", ""), weights), weights) if about.get("format") == FORMAT else None
    beside = weights.with_name(BESIDE)
    if not beside.is_file():
        return None
    found = _parsed(beside.read_text(encoding="utf-8"), beside)
    if "model" in found and found["model"] is None:  # one that cannot be described
        return None
    if not isinstance(found.get("model"), Mapping):
        raise ValueError(f"{beside} describes no model")
    return found["model"], beside


def _parsed(text: str, path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} does not say its model: {error}") from None
    if not isinstance(found, Mapping):
        raise ValueError(f"{path} does not say its model: it holds a {type(found).__name__}")
    return found
