"""Rotation, shear and translation of a whole batch, as Pillow's affine transform does them.

All take uint8 [B, H, W, 3], arguments [B] on the CPU, the fill colour and the interpolation, and give uint8
[B, H, W, 3]. Pixel centres lie at half integers, and values are cut, not rounded, to bytes. Shear and translation move
along one axis: they read two or four pixels where rotation reads four or sixteen.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

STEPS = {"nearest": (0, 1), "bilinear": (0, 2), "bicubic": (-1, 3)}  # pixels read, counted from the one before


def shear_x(images: Tensor, factors: Tensor, fill: tuple[int, ...], interpolation: str) -> Tensor:
    x, y = _centres(images)
    return _slide(images, x + _beside(factors, images) * y, fill, interpolation)


def shear_y(images: Tensor, factors: Tensor, fill: tuple[int, ...], interpolation: str) -> Tensor:
    return shear_x(images.transpose(1, 2), factors, fill, interpolation).transpose(1, 2)


def translate_x(images: Tensor, fractions: Tensor, fill: tuple[int, ...], interpolation: str) -> Tensor:
    x, _ = _centres(images)
    return _slide(images, x + _beside(fractions.double() * images.shape[2], images), fill, interpolation)


def translate_y(images: Tensor, fractions: Tensor, fill: tuple[int, ...], interpolation: str) -> Tensor:
    return translate_x(images.transpose(1, 2), fractions, fill, interpolation).transpose(1, 2)


def rotate(images: Tensor, degrees: Tensor, fill: tuple[int, ...], interpolation: str) -> Tensor:
    """Counter-clockwise about the middle."""
    _, height, width, _ = images.shape
    angle = -degrees.double().remainder(360) * (math.pi / 180)
    cos, sin = (_beside(turn.round(decimals=15), images) for turn in (angle.cos(), angle.sin()))
    (x, y), middle_x, middle_y = _centres(images), width / 2, height / 2
    x, y = (  # summed in Pillow's order
        cos * x + sin * y + (cos * -middle_x + sin * -middle_y + middle_x),
        -sin * x + cos * y + (-sin * -middle_x + cos * -middle_y + middle_y),
    )
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    (rows, down), (columns, across) = _taps(y, height, interpolation), _taps(x, width, interpolation)
    pixels = _packed(images)
    values = _between([_between(_at(pixels, row + columns), across) for row in (rows * width).split(1, 1)], down)
    return _filled(values, inside, fill)


def _slide(images: Tensor, x: Tensor, fill: tuple[int, ...], interpolation: str) -> Tensor:
    """Each pixel from another place of its row: [B, H, W, 3], x float64 [B, H or 1, W] -> uint8 [B, H, W, 3]."""
    _, height, width, _ = images.shape
    row = torch.arange(0, height * width, width, device=images.device)[:, None]
    columns, across = _taps(x, width, interpolation)
    values = _between(_at(_packed(images), row + columns), across)
    return _filled(values, (x >= 0) & (x < width), fill)


def _taps(places: Tensor, size: int, interpolation: str) -> tuple[Tensor, Tensor]:
    """The pixels read along one axis, the border repeated, and how far the place lies from the one before it.

    places float64 [B, H or 1, W] -> int64 [B, taps, H or 1, W], float64 [B, H or 1, W, 1] in [0, 1).
    """
    centres = places if interpolation == "nearest" else places - 0.5
    before = centres.floor()
    steps = torch.arange(*STEPS[interpolation], device=places.device)[:, None, None]
    return (before.long()[:, None] + steps).clamp_(0, size - 1), (centres - before)[..., None]


def _between(values: Sequence[Tensor], t: Tensor) -> Tensor:
    """Interpolated between the middle two of two or four values in a row; the cubic is Keys' with a = -1."""
    if len(values) == 1:
        return values[0]
    if len(values) == 2:
        return values[0] + (values[1] - values[0]) * t
    a, b, c, d = values
    left, right = a - b, c - d
    return b + t * ((c - a) + t * (2 * left + right - t * (left + right)))  # t is double: values are cut to bytes


def _packed(images: Tensor) -> Tensor:
    """A pixel in one word: uint8 [B, H, W, 3] -> int32 [B, H * W]."""
    return pad(images, (0, 1)).contiguous().view(torch.int32).flatten(1)


def _at(pixels: Tensor, places: Tensor) -> tuple[Tensor, ...]:
    """Pixels from elsewhere: int32 [B, H * W], int64 [B, taps, H, W] -> for each tap float32 [B, H, W, 3]."""
    words = pixels.gather(1, places.flatten(1))
    return words.view(torch.uint8).view(*places.shape, 4)[..., :3].float().unbind(1)


def _filled(values: Tensor, inside: Tensor, fill: tuple[int, ...]) -> Tensor:
    """Bytes where inside, else the fill colour: floating [B, H, W, 3], bool [B, H or 1, W] -> uint8 [B, H, W, 3]."""
    colour = torch.tensor(fill, dtype=torch.uint8).to(values.device, non_blocking=True)
    return torch.where(inside[..., None], values.clamp_(0, 255).to(torch.uint8), colour)


def _centres(images: Tensor) -> tuple[Tensor, Tensor]:
    """Pixel centres along the rows and columns: float64 [W], [H, 1]."""
    x, y = (torch.arange(size, dtype=torch.float64, device=images.device) + 0.5 for size in images.shape[2:0:-1])
    return x, y[:, None]


def _beside(args: Tensor, images: Tensor) -> Tensor:
    """Arguments [B] where the images are: float64 [B, 1, 1]."""
    return args.double()[:, None, None].to(images.device, non_blocking=True)
