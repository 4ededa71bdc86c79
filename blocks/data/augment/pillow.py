"""The operations on one Pillow picture: the definition that every other home is measured by."""

from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from blocks.data.augment.ops import FILL, Op

Picture = Image.Image
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
AFFINE_FILTERS = ("nearest", "bilinear", "bicubic")  # Pillow has no other for these


def _by_table(table: Iterable[int]) -> Callable[[Picture], Picture]:
    values = [max(0, min(255, value)) for value in table]
    return lambda image: image.point(values * 3)


def _posterize(image: Picture, bits: float) -> Picture:
    mask = 256 - (1 << (8 - int(bits)))  # ImageOps refuses 0 bits
    return _by_table(value & mask for value in range(256))(image)


def _solarize_add(image: Picture, add: float) -> Picture:
    return _by_table(value + int(add) if value < 128 else value for value in range(256))(image)


def _hue(image: Picture, fraction: float) -> Picture:
    hue, saturation, value = image.convert("HSV").split()
    moved = np.asarray(hue) + np.uint8(int(fraction * 255) % 256)  # wraps around
    return Image.merge("HSV", (Image.fromarray(moved), saturation, value)).convert("RGB")


COLOUR: dict[Op, Callable[[Picture, float], Picture]] = {
    Op.NOTHING: lambda image, arg: image,
    Op.AUTO_CONTRAST: lambda image, arg: ImageOps.autocontrast(image),
    Op.EQUALIZE: lambda image, arg: ImageOps.equalize(image),
    Op.INVERT: lambda image, arg: ImageOps.invert(image),
    Op.POSTERIZE: _posterize,
    Op.SOLARIZE: lambda image, threshold: ImageOps.solarize(image, int(threshold)),
    Op.SOLARIZE_ADD: _solarize_add,
    Op.COLOR: lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    Op.CONTRAST: lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    Op.BRIGHTNESS: lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    Op.SHARPNESS: lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor),
    Op.HUE: _hue,
    Op.GRAYSCALE: lambda image, arg: image.convert("L").convert("RGB"),
    Op.BLUR: lambda image, sigma: image.filter(ImageFilter.GaussianBlur(sigma)),
}
COEFFICIENTS: dict[Op, Callable[[float, int, int], tuple[float, ...]]] = {  # (argument, width, height)
    Op.SHEAR_X: lambda factor, width, height: (1, factor, 0, 0, 1, 0),
    Op.SHEAR_Y: lambda factor, width, height: (1, 0, 0, factor, 1, 0),
    Op.TRANSLATE_X: lambda fraction, width, height: (1, 0, fraction * width, 0, 1, 0),
    Op.TRANSLATE_Y: lambda fraction, width, height: (1, 0, 0, 0, 1, fraction * height),
}


def apply(image: Picture, op: int, arg: float, interpolation: str = "bicubic", fill: tuple[int, ...] = FILL) -> Picture:
    """One operation (see `Op` for its argument) on an RGB picture; interpolation and fill are for the affine ones."""
    op = Op(op)
    if op in COLOUR:
        return COLOUR[op](image, arg)
    resample = FILTERS[interpolation]
    if op is Op.ROTATE:
        return image.rotate(arg, resample, fillcolor=fill)
    coefficients = COEFFICIENTS[op](arg, *image.size)
    return image.transform(image.size, Image.Transform.AFFINE, coefficients, resample, fillcolor=fill)


def apply_all(
    image: Picture, ops: list[int], args: list[float], interpolation: str = "bicubic", fill: tuple[int, ...] = FILL
) -> Picture:
    """A row of a plan, one operation after the other."""
    for op, arg in zip(ops, args, strict=True):
        image = apply(image, op, arg, interpolation, fill)
    return image
