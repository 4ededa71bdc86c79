"""Image bytes to 8-bit RGB pixels, whatever they hold: all of a picture, or a box of it."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from blocks.data.decode.batch import decode_batch
from blocks.data.decode.decoders import DECODERS, Box, best_decoder
from blocks.data.decode.encoded import Decoded, Encoded
from blocks.data.decode.pillow import to_rgb
from blocks.data.decode.unreadable import UnreadableImage

EXTENSIONS = ("jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif", "ppm", "tif", "tiff")
Picture = Image.Image | Encoded | Decoded

__all__ = [
    "DECODERS",
    "EXTENSIONS",
    "Box",
    "Decoded",
    "Encoded",
    "Picture",
    "UnreadableImage",
    "best_decoder",
    "decode",
    "decode_batch",
    "decoded",
    "pixels",
    "rgb",
]


def decode(data: bytes, name: str | Callable[[], str]) -> Image.Image:
    """A loaded RGB image. Raises UnreadableImage(name, reason)."""
    return Encoded(data, name).rgb()


def rgb(picture: Picture) -> Image.Image:
    """The whole picture, decoded; one that Pillow opened is converted in the same way."""
    return to_rgb(picture) if isinstance(picture, Image.Image) else picture.rgb()


def pixels(picture: Picture, box: Box) -> np.ndarray:
    """The pixels of a box (top, left, height, width) within the picture: uint8 [h, w, 3]."""
    if not isinstance(picture, Image.Image):
        return picture.pixels(box)
    top, left, height, width = box
    return np.array(to_rgb(picture).crop((left, top, left + width, top + height)))


def decoded(picture: Picture) -> Image.Image | Decoded:
    """The picture with all its pixels at hand."""
    if isinstance(picture, Image.Image):
        return to_rgb(picture)
    return Decoded(picture) if isinstance(picture, Encoded) else picture
