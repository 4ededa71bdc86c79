"""What Hugging Face's config.json (or timm's) beside a file of weights says that no name does: activation and eps."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ACTIVATIONS = {"gelu": "gelu", "quick_gelu": "quick_gelu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh"}
UNSAID = {"clip": "quick_gelu", "siglip": "gelu_tanh"}  # by the model's type, where a config leaves out what is usual


def told_beside(path: Path) -> tuple[str | None, float | None]:
    """(act_layer, norm_eps), each None where the config beside the file is not there or does not say it."""
    try:
        config = json.loads((path.parent / "config.json").read_text())
    except (OSError, ValueError):
        return None, None
    said: Any = config.get("vision_config", config) if isinstance(config, Mapping) else None
    if not isinstance(said, Mapping):
        return None, None
    kind = str(said.get("model_type", config.get("model_type", ""))).partition("_")[0]
    eps = said.get("layer_norm_eps")
    quick = "quick_gelu" if "quickgelu" in str(config.get("architecture")) else None  # timm's
    act = ACTIVATIONS.get(str(said.get("hidden_act")), UNSAID.get(kind, quick))
    return act, eps if isinstance(eps, float) else None
