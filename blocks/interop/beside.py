"""What a config beside weights says that no name does, activation and eps: Hugging Face's, timm's, open_clip's."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ACTIVATIONS = {  # transformers' names of one function
    **dict.fromkeys(("gelu", "gelu_python"), "gelu"),
    **dict.fromkeys(("gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu_accurate", "gelu_python_tanh"), "gelu_tanh"),
    "quick_gelu": "quick_gelu",
}
UNSAID = {"clip": "quick_gelu", "siglip": "gelu_tanh"}  # by the model's type, where a config leaves out what is usual
Said = tuple[str | None, float | None]


def told_beside(path: Path) -> Said:
    """(act_layer, norm_eps), each None where no config beside the file says it; an act of no name here by its own."""
    act, eps = _config(_read(path.with_name("config.json")))
    other_act, other_eps = _open_clip(_read(path.with_name("open_clip_config.json")))
    return act or other_act, eps or other_eps


def _config(config: Mapping[str, Any]) -> Said:
    """Of Hugging Face's, or of timm's."""
    said = _inside(config, "vision_config") if "vision_config" in config else config
    kind = str(said.get("model_type", config.get("model_type", ""))).partition("_")[0]
    quick = "quick_gelu" if "quickgelu" in str(config.get("architecture")) else None  # timm's
    act = said.get("hidden_act", UNSAID.get(kind, quick))
    return None if act is None else ACTIVATIONS.get(str(act), str(act)), _eps(said, "layer_norm_eps")


def _open_clip(config: Mapping[str, Any]) -> Said:
    """Of open_clip's, for a tower of its own: one of timm's, below "trunk", is what its name says."""
    model = _inside(config, "model_cfg")
    vision = _inside(model, "vision_cfg")
    if not vision or vision.get("timm_model_name"):
        return None, None
    tanh = _inside(vision, "act_kwargs").get("approximate") == "tanh"
    act = "quick_gelu" if model.get("quick_gelu") else "gelu_tanh" if tanh else "gelu"
    return act, _eps(_inside(vision, "norm_kwargs"), "eps")


def _read(path: Path) -> Mapping[str, Any]:
    """What a config holds, nothing where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, Mapping) else {}


def _inside(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, Mapping) else {}


def _eps(config: Mapping[str, Any], name: str) -> float | None:
    found = config.get(name)
    return found if isinstance(found, float) else None
