"""The views of a batch on their way to the model: each has its own keys."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from blocks.random import fold_in

Pictures = dict[str, Tensor]  # "images" [b, ...], or "crops.0", "crops.1" ... [b, V, ...]
VIEW = 1 << 17  # of a sample's folded keys, far from those of its transform


def view_keys(keys: Tensor, view: int) -> Tensor:
    """The samples' keys for a view: [..., 2] -> [..., 2]."""
    return fold_in(keys, VIEW + view)


def named(made: Tensor | Pictures) -> Pictures:
    """What a transform made: pictures by name; a tensor is "images"."""
    return {"images": made} if isinstance(made, Tensor) else made


def pictures_of(batch: dict[str, Any]) -> Pictures:
    """What a batch has to show."""
    return {name: x for name, x in batch.items() if name == "images" or name.startswith("crops.")}


def each_view(pictures: Pictures, keys: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Each view [b, ...] of the pictures, as a part of their storage, with its own of these keys.

    Images are no view: their keys are the given ones. Views of crops are numbered through all sizes.
    """
    view = 0
    for name, x in pictures.items():
        if name == "images":
            yield x, keys
            continue
        for one in x.unbind(1):
            yield one, view_keys(keys, view)
            view += 1
