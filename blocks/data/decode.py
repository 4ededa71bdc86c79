"""Image bytes to 8-bit RGB pictures, whatever they hold."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

EXTENSIONS = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "ppm", "tif", "tiff")


class UnreadableImage(ValueError):
    """An image that cannot be decoded: the sample's name and the reason, and the picture that was asked for it."""

    def __init__(self, name: str, reason: str, picture: "Encoded | None" = None):
        super().__init__(name, reason)
        self.name, self.reason, self.picture = name, reason, picture

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def decode(data: bytes, name: str | Callable[[], str]) -> Image.Image:
    """A loaded RGB image. Raises UnreadableImage(name, reason), for a decompression bomb too.

    Transparency is dropped and EXIF orientation left as stored: what torchvision and timm train and test with, so
    that published accuracies compare. `name` may be a function, called only when it is needed.
    """
    try:
        image = Image.open(io.BytesIO(data))
        _refuse_bomb(image)
        return _to_rgb(image)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise some ten types on damaged bytes
        reason = f"{type(error).__name__}: {error}" if data else "no bytes"
        raise UnreadableImage(name if isinstance(name, str) else name(), reason) from None


def _refuse_bomb(image: Image.Image) -> None:
    """Pillow only warns between its limit and twice its limit."""
    limit, (width, height) = Image.MAX_IMAGE_PIXELS, image.size
    if limit is not None and width * height > limit:
        raise Image.DecompressionBombError(f"{width} x {height} pixels are above Pillow's limit of {limit}")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        image.load()
        return image
    if image.mode.startswith("I"):  # 16 bits: Pillow would clip at 255, we keep the high byte
        high = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255)
        return Image.fromarray(high.astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


class Encoded:
    """A picture as it is stored, decoded when its pixels are asked for. What is asked may raise UnreadableImage."""

    def __init__(self, data: bytes, name: str | Callable[[], str]):
        self.data, self.name = data, name

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.rgb().size

    def rgb(self) -> Image.Image:
        """The whole picture."""
        try:
            return decode(self.data, self.name)
        except UnreadableImage as error:
            raise UnreadableImage(error.name, error.reason, self) from None


def rgb(picture: Image.Image | Encoded) -> Image.Image:
    """The whole picture, decoded."""
    return picture.rgb() if isinstance(picture, Encoded) else picture
