"""Operations on every pixel by itself, for a whole batch: uint8 [B, H, W, 3] and arguments [B] on the CPU -> uint8.

Exactly Pillow's numbers: its byte arithmetic, and single precision where it computes in single precision.
"""

import torch
from torch import Tensor


def invert(images: Tensor, _: Tensor) -> Tensor:
    return ~images


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Only the highest bits of each value: bits [B] of 0 to 8."""
    return images & _beside(256 - torch.exp2(8 - bits), images).to(torch.uint8)


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """Values at or above the threshold inverted."""
    return torch.where(images < _beside(thresholds, images), images, ~images)


def solarize_add(images: Tensor, amounts: Tensor) -> Tensor:
    """Dark values made brighter: amounts [B] of 0 to 128."""
    return torch.where(images < 128, images + _beside(amounts, images).to(torch.uint8), images)


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    return blend(torch.zeros_like(images[:, :1, :1]), images, factors)


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Away from, or towards, each picture's mean grey."""
    grey = luma(images)
    total = grey.sum((1, 2, 3), keepdim=True)  # in whole numbers
    return blend((2 * total + grey[0].numel()) // (2 * grey[0].numel()), images, factors)


def color(images: Tensor, factors: Tensor) -> Tensor:
    return blend(luma(images), images, factors)


def grayscale(images: Tensor, _: Tensor) -> Tensor:
    return luma(images).to(torch.uint8).expand_as(images)


def luma(images: Tensor) -> Tensor:
    """ITU-R 601-2 in 16-bit fixed point: [B, H, W, 3] -> int32 [B, H, W, 1]."""
    red, green, blue = images.int().split(1, -1)
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


def blend(origin: Tensor, images: Tensor, factors: Tensor) -> Tensor:
    """From an origin (factor 0) through the images (1) and beyond, cut to bytes; shapes broadcast to the images'."""
    origin = origin.float()
    return (origin + _beside(factors, images) * (images - origin)).clamp_(0, 255).to(torch.uint8)


def _beside(args: Tensor, images: Tensor) -> Tensor:
    """Arguments [B] where the images are, as [B, 1, 1, 1]."""
    return args[:, None, None, None].to(images.device, non_blocking=True)
