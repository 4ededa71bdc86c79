"""A picture that is decoded when it is asked for, as much of it as is asked for."""

import functools
from collections.abc import Callable

import attrs
import numpy as np
from PIL import Image

from blocks.data.decode import pillow
from blocks.data.decode.decoders import DECODERS, Box, best_decoder
from blocks.data.decode.jpeg import is_plain, size_in_header
from blocks.data.decode.unreadable import unreadable


def _known(_, attribute, value) -> None:
    if value is not None and value not in DECODERS:
        raise ValueError(f"decoder {value!r} is not known; use one of {', '.join(DECODERS)}, or None for the fastest")


@attrs.frozen(eq=False)
class Encoded:
    """A picture as it is stored. What is asked may raise UnreadableImage, for a decompression bomb too.

    `name` may be a function, called only when it is needed. `decoder` is for plain JPEGs, by default the fastest that
    is installed; everything else is Pillow's. All of them give the same pixels and refuse the same pictures.
    """

    data: bytes = attrs.field(repr=False)
    name: str | Callable[[], str]
    decoder: str | None = attrs.field(default=None, validator=_known)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels, from the header alone."""
        with unreadable(self.name, self):
            return self._size()

    def rgb(self) -> Image.Image:
        """The whole picture."""
        with unreadable(self.name, self):
            return pillow.to_rgb(pillow.opened(self.data))

    def pixels(self, box: Box | None = None) -> np.ndarray:
        """The pixels of a box (top, left, height, width) within the picture, or of all of it: uint8 [h, w, 3]."""
        with unreadable(self.name, self):
            width, height = self._size()
            return self._decoded(box or (0, 0, height, width))

    def reduced(self, scale: int) -> Image.Image | None:
        """The whole picture at 1 / scale (2, 4 or 8) of its size, rounded up, where its format has that: a JPEG's."""
        with unreadable(self.name, self):
            return pillow.reduced(self.data, scale)

    def _size(self) -> tuple[int, int]:
        size = size_in_header(self.data)
        if size is None:
            return pillow.opened(self.data).size
        pillow.refuse_bomb(*size)
        return size

    def _decoded(self, box: Box) -> np.ndarray:
        decoder = self.decoder or best_decoder()
        if decoder != "pillow" and is_plain(self.data):
            try:
                return DECODERS[decoder](self.data, box)
            except (ValueError, RuntimeError):
                pass  # damaged, and whether it can be read at all is for Pillow to say
        return DECODERS["pillow"](self.data, box)


@attrs.frozen(eq=False)
class Decoded:
    """A stored picture of which many boxes are wanted: what they are cut from is decoded once.

    It answers as the stored one does, so that it makes no difference which of the two is asked.
    """

    stored: Encoded
    _reduced: dict[int, Image.Image | None] = attrs.field(init=False, factory=dict, repr=False)

    @functools.cached_property
    def array(self) -> np.ndarray:
        """All its pixels: uint8 [H, W, 3]."""
        return self.stored.pixels()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.stored.size

    def rgb(self) -> Image.Image:
        """The whole picture."""
        return Image.fromarray(self.array)

    def pixels(self, box: Box | None = None) -> np.ndarray:
        """The pixels of a box (top, left, height, width) within the picture, or of all of it: uint8 [h, w, 3]."""
        top, left, height, width = box or (0, 0, *self.array.shape[:2])
        return self.array[top : top + height, left : left + width]

    def reduced(self, scale: int) -> Image.Image | None:
        """The whole picture at 1 / scale, as the stored one has it."""
        if scale not in self._reduced:
            self._reduced[scale] = self.stored.reduced(scale)
        return self._reduced[scale]
