"""A function of one picture as a transform: torchvision's, albumentations', one's own."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from blocks.data.decode import Picture, rgb
from blocks.data.global_random import as_found, seed
from blocks.data.loading.made import called, found
from blocks.data.transforms import decoded_once
from blocks.random import fold_in, key

OWN = 4  # of a sample's folded keys: others are those of TrainTransform


def _callable(_, attribute, value) -> None:
    if not callable(value):
        raise ValueError(f"{attribute.name} {value!r} cannot be called; give a function of a PIL image in RGB")


@attrs.frozen
class PerImage:
    """Pictures, keys -> uint8 [B, H, W, 3], by a function of a PIL image in RGB that gives a PIL image, a tensor uint8
    [3, H, W] or an array uint8 [H, W, 3].

    What it draws from torch's, numpy's and Python's global generators follows from the sample's key, and these are left
    as they were found; without keys every picture gets the same numbers. Raises ValueError for what is none of the
    three, and for pictures of different sizes.
    """

    function: Callable[[Image.Image], Any] = attrs.field(validator=_callable)

    def __call__(self, images: Sequence[Picture], keys: Tensor | None = None) -> Tensor:
        """The batch; keys [B, 2] on the CPU."""
        own = fold_in(key(0).expand(len(images), 2) if keys is None else keys, OWN)
        rows: list[Tensor] = []
        with as_found():
            for image, words in zip(decoded_once(images), own.tolist(), strict=True):
                seed(words)
                rows.append(self._row(image))
                self._check_size(rows[0], rows[-1])
        return torch.stack(rows)

    def _row(self, image: Picture) -> Tensor:
        """uint8 [H, W, 3]."""
        whole = rgb(image)
        with self._told_of(image):
            made = self.function(whole.copy() if whole is image else whole)
        if isinstance(made, Image.Image):
            made = np.array(rgb(made))
        row = _channels_last(made)
        if row is None:
            raise ValueError(
                f"{self._name} gives {found(made)}; wanted a PIL image, a tensor uint8 [3, H, W] or an array uint8 "
                "[H, W, 3], neither scaled nor normalised: the loader does that"
            )
        return row

    def _check_size(self, first: Tensor, row: Tensor) -> None:
        if row.shape != first.shape:
            raise ValueError(
                f"{self._name} gives {list(row.shape)} and before {list(first.shape)}; end with a resize or a crop to "
                "one size, for pictures of a batch have one"
            )

    @contextmanager
    def _told_of(self, image: Picture) -> Iterator[None]:
        """An error of the function is its own, and says of which picture."""
        try:
            yield
        except Exception as error:
            name = getattr(getattr(image, "stored", image), "name", "a picture")
            error.add_note(f"in {self._name}, of {name() if callable(name) else name}")
            raise

    @property
    def _name(self) -> str:
        return f"PerImage({called(self.function)})"


def _channels_last(made: Any) -> Tensor | None:
    """A tensor [3, H, W] or an array [H, W, 3], of bytes, as a tensor [H, W, 3]; None for all else."""
    if isinstance(made, np.ndarray) and made.dtype == np.uint8:
        row = torch.from_numpy(np.require(made, requirements=("C", "W")))
    elif isinstance(made, Tensor) and made.dtype == torch.uint8 and made.ndim == 3:
        row = made.as_subclass(Tensor).permute(1, 2, 0)
    else:
        return None
    return row if row.ndim == 3 and row.shape[-1] == 3 and row.numel() else None
