"""A model and its params as one safetensors file that says what it is: `save`, `load` and `saved_metadata`."""

import json
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from blocks import random, tree
from blocks.block import Block, Params
from blocks.durable import replace
from blocks.interop.construction import build, describe
from blocks.interop.json_text import mapping_in
from blocks.interop.metadata import ENTRY, as_text
from blocks.tree import Flat

FORMAT = "vitmason 1"
USUAL = (  # names of weights in a folder that others saved
    *("model.safetensors", "model.safetensors.index.json", "open_clip_model.safetensors"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json", "open_clip_pytorch_model.bin"),
)
MOMENTS = (".running_mean", ".running_var")  # of batch norms: params may hold them besides what `init` gives


def save(path: str | Path, model: Block, params: Params, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Write params, and the model's description beside them, to one safetensors file: there whole, or as before.

    Anything that reads safetensors reads the tensors, by their dotted names. `metadata`, what else whoever uses the
    model should know (the size and mean of its images, its classes), is any mapping that JSON holds. Raises ValueError
    for a model that cannot be described, for params that are not its own, and for other metadata.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(model, Block):
        raise ValueError(f"save(path, model, params): a {type(path).__name__} and a {type(model).__name__} are no such")
    path, leaves = Path(path), tree.flatten(params)
    _template(model, leaves, "these params")
    about = {"format": FORMAT, "model": json.dumps(describe(model))}
    if metadata is not None:
        about[ENTRY] = as_text(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(_parted(leaves), temporary, metadata=about)
        replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load(
    path: str | Path, *, device: torch.device | str = "cpu", trusted: Sequence[str] = ("blocks",)
) -> tuple[Block, Params]:
    """(model, params on the device) of a file that `save` wrote; only classes of `trusted` packages are made.

    Raises FileNotFoundError, and ValueError for a damaged file, one that `save` did not write, or a model that `build`
    refuses.
    """
    leaves, about = read(Path(path))
    _check_format(about, path)
    model = build(_description(about, path), trusted)
    template = _template(model, leaves, str(path))
    return model, tree.like(template, {name: leaf.to(device, copy=True) for name, leaf in leaves.items()})


def saved_metadata(path: str | Path) -> dict[str, Any]:
    """The `metadata` that `save` was given, {} for none. Raises FileNotFoundError, and ValueError, as `load` does."""
    about = read(Path(path))[1]
    _check_format(about, path)
    return mapping_in(about[ENTRY], f"{path} has damaged metadata") if ENTRY in about else {}


def read(path: Path) -> tuple[Flat, dict[str, str]]:
    """(tensors by name, memory-mapped on the CPU; the texts beside them) of any safetensors file."""
    if not path.is_file():
        raise missing(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        zipped = "torch.save wrote it, without its model: load_weights(model, path) reads it as .pt"
        why = zipped if zipfile.is_zipfile(path) else error
        raise ValueError(f"{path} is damaged or no safetensors file: {why}") from None


def missing(path: Path) -> FileNotFoundError:
    """The error of a checkpoint that is not there, or not on this machine, or a folder."""
    if path.is_dir():
        beside = next((path / name for name in USUAL if (path / name).is_file()), None)
        way = f"params of a run are in blocks.Run.open({str(path)!r}).params()" if beside is None else f"give {beside}"
        return FileNotFoundError(f"{path} is a folder, not a file; {way}")
    remote = re.match(r"(https?|s3|gs|hf):/", str(path))
    way = "; download it, and give the file" if remote else ""
    if len(path.parts) == 1 and not path.suffix:
        way = (
            "; weights by a name of timm's: load_weights(model, timm.create_model(name, pretrained=True).state_dict())"
        )
    return FileNotFoundError(f"no checkpoint at {path}{way}")


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as one: eight bytes of length, then JSON."""
    with open(path, "rb") as file:
        return file.read(9)[8:] == b"{"


def has_own_format(path: Path) -> bool:
    """Whether `save` wrote this file."""
    return path.is_file() and is_safetensors(path) and read(path)[1].get("format") == FORMAT


def _check_format(about: Mapping[str, str], path: str | Path) -> None:
    if about.get("format") != FORMAT:
        raise ValueError(
            f"{path} has the format {about.get('format')!r}, not {FORMAT!r}: "
            "load_weights(model, path) reads its tensors for a model that you make"
        )


def _description(about: Mapping[str, str], path: str | Path) -> Any:
    try:
        return json.loads(about["model"])
    except (KeyError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} does not say its model: {error!r}") from None


def _template(model: Block, leaves: Flat, whose: str) -> Params:
    """The model's params tree, with running moments where the leaves have some: shapes only."""
    template = model.init(random.key(0, device="meta"))
    names = tree.flatten(template)
    try:
        for name, leaf in leaves.items():
            if name.endswith(MOMENTS) and name not in names:
                template = _with_leaf(template, name, leaf)
        tree.like(template, leaves)
    except ValueError as error:
        raise ValueError(f"{whose} are not those of the model:\n{error}") from None
    return template


def _with_leaf(node: Params, name: str, leaf: Tensor) -> Params:
    """The tree with one leaf more."""
    if isinstance(node, Tensor):
        raise ValueError(f"unexpected {name} {list(leaf.shape)} below a tensor")
    first, _, rest = name.partition(".")
    return {**node, first: _with_leaf(node.get(first, {}), rest, leaf) if rest else leaf}


def _parted(leaves: Flat) -> Flat:
    """Leaves on the CPU, contiguous, none with storage in common, which the format does not know."""
    seen: set[int] = set()
    parted: Flat = {}
    for name, leaf in leaves.items():
        leaf = leaf.detach().cpu().contiguous()
        place = leaf.untyped_storage().data_ptr()
        parted[name] = leaf.clone() if place in seen or leaf.untyped_storage().nbytes() != leaf.nbytes else leaf
        seen.add(place)
    return parted
