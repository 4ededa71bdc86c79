"""Kept pictures in the place of a reader's: what is left for the workers to do, and for the device."""

import contextlib
from collections.abc import Sequence

import attrs
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from blocks.data.decode import Encoded
from blocks.data.index.index import Index
from blocks.data.index.read import Reader
from blocks.data.loading.kept import Cut, KeptPictures, decoded_size, keep, kept_folder, open_kept
from blocks.data.loading.kept_room import VARIABLE, check_disk, check_memory
from blocks.data.loading.slots import Transform

KEEPS = ("disk", "memory", "device")
TIMES = 5  # that a set may make way for others between its making and its opening


@attrs.frozen(eq=False)
class Row:
    """A kept picture that is cut already."""

    sample: int
    array: np.ndarray = attrs.field(repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.array.shape[1], self.array.shape[0]


@attrs.frozen(eq=False)
class KeptReader:
    """A reader of kept pictures: of rows where they are cut already, else of whole pictures.

    One that could not be decoded is given as it is stored: it says itself why. So does one that lacks its label.
    """

    stored: Reader
    kept: KeptPictures
    cut: bool

    def picture(self, sample: int) -> Row | Image.Image | Encoded:
        """A picture that needs no decoder."""
        if not self.kept.readable[sample] or self.stored.index.is_incomplete(sample):
            return self.stored.picture(sample)
        array = self.kept.pixels[sample]
        return Row(sample, array) if self.cut else Image.fromarray(array)

    def ahead(self, samples: np.ndarray) -> None:
        """Nothing has to be fetched."""


@attrs.frozen(eq=False)
class Kept:
    """Where a loader's pictures come from, what its workers still do to them, and the device's copy, if it has one."""

    reader: KeptReader
    transform: Transform
    pixels: Tensor | None = attrs.field(default=None, repr=False)

    def gathered(self, images: Tensor) -> Tensor:
        """The pictures uint8 [b, H, W, 3] of a worker's batch: as they are, or by their numbers from the device."""
        return images if self.pixels is None else self.pixels[images.to(self.pixels.device, non_blocking=True)]


def kept_as(
    index: Index, where: str, transform: Transform, cut: Cut | None, device: torch.device, workers: int
) -> Kept:
    """The pictures of an index kept decoded, as `cut` makes them; without it they are whole, and transformed later.

    Raises as `keep`.
    """
    kept = _kept(index, cut, workers, in_memory=where == "memory")
    reader = KeptReader(Reader(index), kept, cut is not None)
    if where == "device":
        return Kept(reader, numbers, torch.from_numpy(np.array(kept.pixels)).to(device))
    return Kept(reader, transform if cut is None else stacked)


def check_room(index: Index, where: str, cut: Cut | None, device: torch.device, world_size: int) -> None:
    """Raises ValueError for pictures that cannot be kept there: whole ones on the device, or more than may be."""
    if where == "device" and cut is None:
        raise ValueError("decoded='device' is for a transform with home='device'; this one works in the workers")
    there, size = kept_folder(index, cut).exists(), decoded_size(index, cut)
    if where != "disk":
        check_memory(size, where, device, world_size)
    if not there:
        check_disk(size)


def _kept(index: Index, cut: Cut | None, workers: int, in_memory: bool) -> KeptPictures:
    for _ in range(TIMES):
        with contextlib.suppress(FileNotFoundError):
            return open_kept(keep(index, cut, workers), in_memory)
    raise OSError(
        f"{kept_folder(index, cut)} made way for others {TIMES} times before it could be opened; set {VARIABLE} to a "
        "higher limit"
    )


def stacked(pictures: Sequence[Row | Encoded], keys: Tensor | None = None) -> Tensor:
    """Rows as a batch: uint8 [b, H, W, 3]. Raises UnreadableImage."""
    return torch.from_numpy(np.stack([_row(picture).array for picture in pictures]))


def numbers(pictures: Sequence[Row | Encoded], keys: Tensor | None = None) -> Tensor:
    """The samples of rows: int64 [b]. Raises UnreadableImage."""
    return torch.tensor([_row(picture).sample for picture in pictures])


def _row(picture: Row | Encoded) -> Row:
    if isinstance(picture, Encoded):
        picture.pixels()  # raises what it raised before
        raise AssertionError(f"{picture} was unreadable when it was to be kept")
    return picture
