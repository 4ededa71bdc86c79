"""Image bytes to 8-bit RGB by Pillow, whatever they hold: the pixels that every other decoder is measured by."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

SMALLER = "make it smaller first; a program that trusts it may raise PIL.Image.MAX_IMAGE_PIXELS"


def opened(data: bytes) -> Image.Image:
    """The picture, of which only the header was read. Raises DecompressionBombError above Pillow's limit."""
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:  # names the place in memory
        raise UnidentifiedImageError("not an image of a known format, or cut off in its header") from None
    except Image.DecompressionBombError:
        limit = Image.MAX_IMAGE_PIXELS
        raise Image.DecompressionBombError(f"its pixels are above twice Pillow's limit of {limit}; {SMALLER}") from None
    refuse_bomb(*image.size)
    return image


def refuse_bomb(width: int, height: int) -> None:
    """Pillow only warns between its limit and twice its limit."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise Image.DecompressionBombError(f"{width} x {height} pixels are above Pillow's limit of {limit}; {SMALLER}")


def to_rgb(image: Image.Image) -> Image.Image:
    """The loaded picture in RGB. Raises ValueError for 32-bit numbers, of which no largest is known.

    Transparency is dropped and EXIF orientation left as stored: what torchvision and timm train and test with, so
    that published accuracies compare.
    """
    if image.mode == "RGB":
        image.load()
        return image
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")  # Pillow would clip at 255
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} holds 32-bit numbers, which have no white; scale to 8 bits first")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def reduced(data: bytes, scale: int) -> Image.Image | None:
    """A JPEG at 1 / scale (2, 4 or 8) of its size, rounded up, from its lower frequencies alone; None if it cannot be.

    The inverse cosine transform of each block makes as many times fewer pixels: their means, nearly.
    """
    image = opened(data)
    size = tuple(-(-side // scale) for side in image.size)
    if image.draft(image.mode, (image.width // scale, image.height // scale)) is None or image.size != size:
        return None
    return to_rgb(image)
