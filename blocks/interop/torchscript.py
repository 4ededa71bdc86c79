"""The tensors in a TorchScript archive, by name: its pickle is read for them, and none of its code is run."""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DTYPES = {
    f"{name}Storage": dtype
    for name, dtype in (
        *(("Half", torch.float16), ("BFloat16", torch.bfloat16), ("Float", torch.float32), ("Double", torch.float64)),
        *(("Char", torch.int8), ("Short", torch.int16), ("Int", torch.int32), ("Long", torch.int64)),
        *(("Byte", torch.uint8), ("Bool", torch.bool)),
    )
}
MARK = "/constants.pkl"  # which an archive of torch.save has not
TENSOR = ("torch._utils", "_rebuild_tensor_v2")


class Scripted:
    """What stands for a module: its attributes."""


class Reader(pickle.Unpickler):
    """Makes `Scripted`, tensors and plain values; anything else is an UnpicklingError."""

    def __init__(self, archive: zipfile.ZipFile, place: str):
        super().__init__(archive.open(f"{place}/data.pkl"))
        self.archive, self.place = archive, place
        self.stored: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "__torch__":
            return Scripted
        if (module, name) == TENSOR:
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if module == "torch.jit._pickle":  # lists of plain values
            return _as_it_is
        raise pickle.UnpicklingError(f"it has a {module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, name, *_ = pid
        if name not in self.stored:
            self.stored[name] = torch.frombuffer(bytearray(self.archive.read(f"{self.place}/data/{name}")), dtype=dtype)
        return self.stored[name]


def is_torchscript(path: Path) -> bool:
    """Whether the file is such an archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(MARK) for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers, in the order in which they lie there. Raises UnpicklingError for what holds others."""
    with zipfile.ZipFile(path) as archive:
        place = next(name for name in archive.namelist() if name.endswith(MARK)).removesuffix(MARK)
        return dict(_leaves(Reader(archive, place).load(), ""))


def _leaves(value: Any, name: str) -> Any:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Scripted):
        for part, inner in vars(value).items():
            yield from _leaves(inner, f"{name}.{part}".removeprefix("."))


def _tensor(stored: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return stored.as_strided(size, stride, offset)


def _as_it_is(value: Any, *_: Any) -> Any:
    return value
