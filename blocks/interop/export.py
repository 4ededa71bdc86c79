"""A model as a graph that runs without this library: torch.export, and ONNX."""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from blocks import tree
from blocks.block import Block, Params
from blocks.interop.metadata import ENTRY, as_text
from blocks.interop.module import to_module

NEEDED = ("onnx", "onnxscript")
LIMIT = 2**31 - 2**24  # bytes of weights in one ONNX file, which protobuf holds to 2 GiB


def to_exported(model: Block, params: Params, images: Tensor) -> ExportedProgram:
    """The model in evaluation mode as a `torch.export` program of any number of images of that size, type and device.

    `program.module()(images)` runs it, `torch.export.save(program, path)` writes it.
    """
    if not isinstance(images, Tensor):
        raise ValueError(f"images are a {type(images).__name__}; give one batch of them, [B, C, H, W], for their shape")
    module = to_module(model, params).eval().requires_grad_(False)
    two = images[:1].expand(2, *images.shape[1:])  # one would be taken for a constant
    return torch.export.export(module, (two,), dynamic_shapes=({0: Dim.DYNAMIC},))


def to_onnx(
    path: str | os.PathLike[str],
    model: Block,
    params: Params,
    images: Tensor,
    *,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Writes the model in evaluation mode as ONNX: "images" [batch, C, H, W], of that size and type -> "output".

    One file; weights of 2 GiB and more lie beside it, in path + ".data". `metadata`, as `save` takes it, is the entry
    "metadata" of the file's own metadata, as JSON. Needs onnx and onnxscript; their absence is an ImportError that says
    how to get them.
    """
    check_installed()
    if not isinstance(path, str | os.PathLike) or not isinstance(images, Tensor):
        raise ValueError(f"to_onnx(path, model, params, images), in this order: path is a {type(path).__name__}")
    entries = {} if metadata is None else {ENTRY: as_text(metadata)}
    params = tree.to(params, "cpu")  # where each op is made of torch's own
    program = to_exported(model, params, images.cpu())
    too_large = sum(leaf.nbytes for leaf in tree.leaves(params)) > LIMIT
    written = torch.onnx.export(
        program, (), input_names=["images"], output_names=["output"],
        dynamic_shapes=({0: "batch"},), dynamo=True, verbose=False,
    )  # fmt: skip
    assert written is not None  # as it is with dynamo
    written.model.metadata_props.update(entries)
    written.save(Path(path), external_data=too_large)


def check_installed() -> None:
    """Raises ImportError without what torch.onnx needs."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"ONNX needs {' and '.join(missing)}; use: pip install 'vitmason[onnx]'")
