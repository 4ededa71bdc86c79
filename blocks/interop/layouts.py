"""Where the weights lie in a checkpoint, and by which names: this library's, timm's, DeiT's, ConViT's, VISSL's."""

import argparse
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import torch
from torch import Tensor

from blocks.interop.saving import read
from blocks.interop.timm import unwrapped
from blocks.interop.vissl import from_vissl, has_other_eps, is_vissl
from blocks.tree import Flat

Which = Literal["params", "ema", "teacher"]
LAYER_SCALE = re.compile(r"\.gamma_([12])$")  # DeiT III's own files
OURS = {"state", "about"}  # entries of a file that the training loop writes
BOXES: tuple[dict[str, str], ...] = (  # where a dictionary has what
    {"params": "model", "ema": "model_ema"},
    {"params": "state_dict", "ema": "state_dict_ema", "teacher": "state_dict"},
    {"params": "model_state_dict"},
    {"params": "student", "teacher": "teacher"},  # DINO
)
ENCODERS = {  # in names, of MoCo v3 and of DINO
    "params": re.compile(r"^(base_encoder\.|backbone\.|(?=head\.))"),
    "teacher": re.compile(r"^(momentum_encoder\.|backbone\.|(?=head\.))"),
}
TEACHERS = ("momentum_teacher", "moco_encoder")  # in the loss of VISSL's DINO and MoCo


@attrs.frozen(eq=False)
class Weights:
    """Leaves by timm's names, as found in a file or dictionary of the named layout."""

    layout: str
    leaves: Flat
    other_eps: bool = False  # whether the norms were not timm's 1e-6


def weights_of(source: str | Path | Mapping[str, Any], which: Which = "params") -> Weights:
    """The weights in a file, or in what was read from one, memory-mapped on the CPU where the file allows it.

    Raises FileNotFoundError, and ValueError for what is no checkpoint of a known layout or holds no such weights.
    """
    if which not in ("params", "ema", "teacher"):
        raise ValueError(f'which {which!r} is not known; use "params", "ema" or "teacher"')
    content = source if isinstance(source, Mapping) else read_content(Path(source))
    layout, leaves = _found(content, which)
    others = [name for name, leaf in leaves.items() if not isinstance(leaf, Tensor)]
    if others or not leaves:
        raise ValueError(f"{layout}: {others[:4] or 'an empty dictionary'}, not tensors by name; give the state_dict")
    leaves = {unwrapped(name): leaf for name, leaf in leaves.items()}
    if is_vissl(leaves):
        return Weights("VISSL", from_vissl(leaves), has_other_eps(leaves))
    return Weights(layout, {LAYER_SCALE.sub(r".ls\1.gamma", name): leaf for name, leaf in leaves.items()})


def read_content(path: Path) -> Any:
    """What a .pth, .pt, .bin, .torch or .safetensors file holds: tensors and plain values; nothing in it is run."""
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    if path.suffix == ".safetensors":
        return read(path)[0]
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # DeiT and ConViT keep their arguments in it
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is damaged, or holds more than tensors and plain values ({str(error).splitlines()[0]}). If you "
            "trust it, give torch.load(path, weights_only=False), which may run what the file says, in its place"
        ) from None
    except (RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is damaged or no checkpoint: {str(error).splitlines()[0]}") from None


def _found(content: Any, which: Which) -> tuple[str, Mapping[str, Any]]:
    """(the layout's name, its leaves by the names they have there)."""
    if not isinstance(content, Mapping):
        raise ValueError(f"a {type(content).__name__} is no checkpoint; give a file's path or a state_dict")
    if content.keys() == OURS:
        return "this library's", _ours(content["state"], which)
    if "classy_state_dict" in content:
        return "VISSL", _vissl(content, which)
    for box in BOXES:
        if any(isinstance(content.get(name), Mapping) for name in box.values()):
            return f"timm's names in {box.get(which)!r}", _encoder(_boxed(content, box, which), which)
    if which != "params":
        raise ValueError(f"which={which!r}: a bare state_dict has params alone")
    return "timm's names", content


def _ours(state: Mapping[str, Tensor], which: Which) -> Flat:
    place = {"params": "params.", "ema": "ema.", "teacher": "memory.teacher."}[which]
    found = {name.removeprefix(place): leaf for name, leaf in state.items() if name.startswith(place)}
    if not found:
        raise ValueError(f"which={which!r}: this checkpoint has none; its run kept {sorted(_tops(state))}")
    return found


def _tops(state: Mapping[str, Tensor]) -> set[str]:
    return {name.partition(".")[0] for name in state}


def _boxed(content: Mapping[str, Any], box: Mapping[str, str], which: Which) -> Mapping[str, Any]:
    found = content.get(box.get(which, ""))
    if not isinstance(found, Mapping):
        raise ValueError(f"which={which!r}: not in this checkpoint, whose entries are {sorted(map(str, content))}")
    return found


def _encoder(leaves: Mapping[str, Any], which: Which) -> Mapping[str, Any]:
    """Of two encoders the leaves of one, by names without it; all leaves as they are where there is one alone."""
    leaves = {unwrapped(name): leaf for name, leaf in leaves.items()}
    if any(name.startswith(("base_encoder.", "backbone.")) for name in leaves):
        inside = ENCODERS["teacher" if which == "teacher" else "params"]
        return {inside.sub("", name): leaf for name, leaf in leaves.items() if inside.match(name)}
    if which == "teacher":
        raise ValueError("which='teacher': no name in this checkpoint begins with momentum_encoder or backbone")
    return leaves


def _vissl(content: Mapping[str, Any], which: Which) -> Mapping[str, Any]:
    if which == "teacher":
        return _teacher(content.get("loss") or {})
    state = content["classy_state_dict"]
    model = state.get("base_model" if which == "params" else "ema_model")
    if model is None and which == "params":
        return state  # a converted one: leaves by name
    if model is None:
        raise ValueError(f"which={which!r}: this checkpoint of VISSL has no 'ema_model'")
    parts = model["model"]
    return {f"{part}.{name}": leaf for part in ("trunk", "heads") for name, leaf in parts.get(part, {}).items()}


def _teacher(loss: Mapping[str, Any]) -> Flat:
    prefix = re.compile(rf"^({'|'.join(TEACHERS)})\.(module\.)?")
    found = {prefix.sub("", name): leaf for name, leaf in loss.items() if prefix.match(name)}
    if not found:
        raise ValueError(f"which='teacher': the loss in this checkpoint of VISSL has no {' or '.join(TEACHERS)}")
    return found
