"""What a transform made, seen to be what batches are made of: a user may have written it."""

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from blocks.data.loading.slots import Transform
from blocks.data.views import Pictures

ONE = "; the loader normalises, and a function f of one picture is PerImage(f)"
NAMES = 'wanted "images", or "crops.0", "crops.1" ...'


@attrs.frozen
class Checked:
    """A transform, and nothing else than uint8 of it. Raises ValueError for that."""

    transform: Transform

    def __call__(self, images: Sequence[Any], keys: Tensor | None = None) -> Pictures:
        """What it makes of them, by name."""
        made = self.transform(images, keys)
        if getattr(self.transform, "decode", "workers") == "device":
            return made  # type: ignore[return-value]  # JPEGs as they are stored, which ours alone hand over
        return checked(made, len(images), called(self.transform))


def checked(made: Any, count: int, name: str) -> Pictures:
    """The pictures by name, uint8 [B, H, W, 3] or crops uint8 [B, V, H, W, 3], of a transform that messages call so."""
    if not isinstance(made, dict):
        return {"images": _bytes(made, count, name, ("H", "W"))}
    return {
        key: _bytes(one, count, f"{name} gives {key}:", ("V", "H", "W") if _is_crops(key, name) else ("H", "W"))
        for key, one in made.items()
    }


def called(transform: Any) -> str:
    """A function by its name, an object by that of its class."""
    return getattr(transform, "__name__", type(transform).__name__)


def found(made: Any) -> str:
    """What it is, for messages: float32 [6, 32, 32, 3], or its type."""
    if isinstance(made, (Tensor, np.ndarray)):
        return f"{str(made.dtype).removeprefix('torch.')} {list(made.shape)}"
    kind = type(made).__name__
    return "None" if made is None else f"{'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind}"


def _is_crops(key: Any, name: str) -> bool:
    if key != "images" and not str(key).startswith("crops."):
        raise ValueError(f"transform {name} gives {key}; {NAMES}")
    return key != "images"


def _bytes(made: Any, count: int, name: str, sides: tuple[str, ...]) -> Tensor:
    """The tensor, if it has a picture with three channels for each of so many."""
    is_array = isinstance(made, np.ndarray) and made.dtype == np.uint8
    pictures = torch.from_numpy(np.require(made, requirements=("C", "W"))) if is_array else made
    fits = isinstance(pictures, Tensor) and pictures.dtype == torch.uint8 and pictures.ndim == len(sides) + 2
    if not fits or len(pictures) != count or pictures.shape[-1] != 3 or not pictures.numel():
        verb = "" if name.endswith(":") else " gives"
        wanted = ", ".join([str(count), *sides, "3"])
        raise ValueError(
            f"transform {name}{verb} {found(made)} for {count} picture{'s' * (count > 1)}; wanted uint8 [{wanted}]{ONE}"
        )
    return pictures
