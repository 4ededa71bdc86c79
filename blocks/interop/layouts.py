"""Where the weights lie in a checkpoint, and by which names: this library's, timm's, or a published method's."""

import argparse
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import torch
from torch import Tensor

from blocks import tree
from blocks.durable import is_intact
from blocks.interop import clip, hugging_face
from blocks.interop.dinov2 import as_timm
from blocks.interop.dinov3 import with_one_bias
from blocks.interop.gated import packed
from blocks.interop.heads import as_ours
from blocks.interop.parts import index_of, is_index, read_parts
from blocks.interop.saving import FORMAT, is_safetensors, missing, read
from blocks.interop.timm import unwrapped, without_wrappers
from blocks.interop.torchscript import is_torchscript, read_torchscript
from blocks.interop.vissl import NORM_EPS, from_vissl, has_other_eps, is_vissl
from blocks.interop.weights import Weights, by_timm_s_names, with_config
from blocks.tree import Flat

Which = Literal["params", "ema", "teacher"]
LAYER_SCALE = re.compile(r"\.gamma_([12])$")  # DeiT III's own files, timm's of DINOv3
OWN = "this library's"
MOCO_V3 = "MoCo v3"
OURS = {"state", "about"}  # entries of a file that the training loop writes
BOXES: tuple[dict[str, str], ...] = (  # where a dictionary has what
    {"params": "model", "ema": "model_ema"},
    {"params": "state_dict", "ema": "state_dict_ema", "teacher": "state_dict"},
    {"params": "model_state_dict"},
    {"params": "student", "teacher": "teacher"},  # DINO
)
ENCODERS = (("base_encoder.", "momentum_encoder."), ("encoder_q.", "encoder_k."), ("backbone.", "backbone."))
FAMILIES = tuple(  # by a name that none but its files have
    (family, re.compile(mark))
    for family, mark in (
        (MOCO_V3, r"^(base|momentum)_encoder\."),
        (clip.NAME, clip.MARK.pattern),
        (hugging_face.NAME, rf".*({hugging_face.MARK.pattern})"),
        ("MoCo", r"^encoder_[qk]\."),
        ("MAE", r"^decoder_embed\."),
        ("SwAV", r"^projection_head\."),
        ("DINO", r"^(backbone\.|head\.mlp\.)"),
        ("timm", ""),  # also DeiT's and ConViT's
    )
)
CLASSIFIER = re.compile(r"^fc\.")  # a ResNet's, in MoCo's place of the head
DECODER = re.compile(r"^(?=decoder_|mask_token$)")  # MAE's
UNREADABLE = (  # what torch.load raises for damaged bytes
    *(RuntimeError, zipfile.BadZipFile, EOFError, OSError, MemoryError, struct.error, AssertionError),
    *(LookupError, ValueError, TypeError, AttributeError, ArithmeticError),
)
TEACHERS = ("momentum_teacher", "moco_encoder")  # in the loss of VISSL's DINO and MoCo


def weights_of(source: str | Path | Mapping[str, Any], which: Which = "params") -> Weights:
    """The weights in a file, or in what was read from one, memory-mapped on the CPU where the file allows it.

    Raises FileNotFoundError, and ValueError for what is no checkpoint of a known layout or holds no such weights.
    """
    if which not in ("params", "ema", "teacher"):
        raise ValueError(f'which {which!r} is not known; use "params", "ema" or "teacher"')
    if not isinstance(source, Mapping | str | os.PathLike):
        of = "; give its state_dict()" if isinstance(source, torch.nn.Module) else ""
        raise ValueError(
            f"a {type(source).__name__} is no path and no state_dict, as load_weights(model, source) reads{of}"
        )
    content = source if isinstance(source, Mapping) else read_content(Path(source))
    if isinstance(content, Weights):
        return _only_params(content, which)
    layout, leaves = _found(content, which)
    leaves = _flat(leaves)
    others = [name for name, leaf in leaves.items() if not isinstance(leaf, Tensor) or not isinstance(name, str)]
    if others or not leaves:
        raise ValueError(f"{layout}: {others[:4] or 'an empty dictionary'}, not tensors by name; give the state_dict")
    leaves = without_wrappers(leaves)
    if layout == OWN:
        return Weights(OWN, leaves)
    if is_vissl(leaves):
        return Weights("VISSL", from_vissl(leaves), norm_eps=NORM_EPS if has_other_eps(leaves) else None)
    found = by_timm_s_names(layout, leaves)
    leaves = as_timm({LAYER_SCALE.sub(r".ls\1.gamma", n): t for n, t in found.leaves.items()})
    found = attrs.evolve(found, leaves=as_ours(_of_decoder(packed(with_one_bias(leaves)))))
    return found if isinstance(source, Mapping) else with_config(found, Path(source))


def _flat(leaves: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leaves by dotted names, where a tree of tensors lies there; anything else as it is."""
    try:
        return tree.flatten(leaves)
    except TypeError:
        return leaves


def _only_params(found: Weights, which: Which) -> Weights:
    if which != "params":
        raise ValueError(f"which={which!r}: a bare state_dict has params alone")
    return found


def read_content(path: Path) -> Any:
    """What a .pth, .pt, .bin, .torch or .safetensors file, or an index of several, holds: tensors and plain values.

    Nothing in it is run.
    """
    if not path.is_file():
        raise missing(path)
    if is_index(path):
        return read_parts(path, _read_file)
    index = index_of(path)
    if index is not None:
        raise ValueError(f"{path} holds a part of the weights; give {index}")
    return _read_file(path)


def _read_file(path: Path) -> Any:
    if not path.is_file():
        raise missing(path)
    if path.suffix == ".safetensors" or is_safetensors(path):
        leaves, about = read(path)
        return Weights(OWN, leaves) if about.get("format") == FORMAT else leaves
    try:
        if is_torchscript(path):
            return read_torchscript(path)
        with torch.serialization.safe_globals([argparse.Namespace]):  # DeiT and ConViT keep their arguments in it
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is damaged, or holds more than tensors and plain values ({_first_line(error)}). If you "
            "trust it, give torch.load(path, weights_only=False), which may run what the file says, in its place"
        ) from None
    except UNREADABLE as error:
        raise ValueError(f"{path} is damaged or no checkpoint: {_first_line(error)}") from None
    if isinstance(content, Mapping) and content.keys() == OURS and not is_intact(path):  # torch asks for no checksum
        raise ValueError(f"{path} is damaged: its bytes are not those that were written; give another checkpoint")
    return content


def _first_line(error: Exception) -> str:
    """Its first sentence: torch's errors go on with advice that is not ours."""
    first = str(error).partition("\n")[0].partition(". ")[0]
    return first if " " in first else f"{type(error).__name__} {first}".strip()


def _found(content: Any, which: Which) -> tuple[str, Mapping[str, Any]]:
    """(the layout's name, its leaves by the names they have there)."""
    if not isinstance(content, Mapping):
        raise ValueError(f"a {type(content).__name__} is no checkpoint; give a file's path or a state_dict")
    if content.keys() == OURS:
        return OWN, _ours(content["state"], which)
    if "classy_state_dict" in content:
        return "VISSL", _vissl(content, which)
    for box in BOXES:
        if any(isinstance(content.get(name), Mapping) for name in box.values()):
            leaves = _boxed(content, box, which)
            return f"{_names(leaves)} in {box.get(which)!r}", _encoder(leaves, which)
    if which != "params":
        raise ValueError(f"which={which!r}: a bare state_dict has params alone")
    return _names(content), _encoder(content, which)


def _names(leaves: Mapping[str, Any]) -> str:
    """Whose names these are."""
    names = [unwrapped(str(name)) for name in leaves]
    return next(f"{family}'s names" for family, mark in FAMILIES if any(map(mark.match, names)) or family == "timm")


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
    """Of two encoders one, by names without it, and what stands beside it; all leaves where there is one alone."""
    leaves = without_wrappers(leaves)
    for pair in ENCODERS:
        if any(name.startswith(pair) for name in leaves):
            own, other = pair[::-1] if which == "teacher" else pair
            inside = {n.removeprefix(own): t for n, t in leaves.items() if n.startswith(own)}
            beside = {n: t for n, t in leaves.items() if not n.startswith((own, other))}
            inside |= {n: t for n, t in beside.items() if which != "teacher" or n.startswith("head.")}
            return inside if own == "backbone." else {CLASSIFIER.sub("head.", n): t for n, t in inside.items()}
    if which == "teacher":
        raise ValueError("which='teacher': no name in this checkpoint begins with momentum_encoder or backbone")
    return leaves


def _of_decoder(leaves: Flat) -> Flat:
    """MAE's leaves, those of its decoder below "decoder" as in ours."""
    if "decoder_embed.weight" not in leaves:
        return leaves
    return {DECODER.sub("decoder.", name): leaf for name, leaf in leaves.items()}


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
