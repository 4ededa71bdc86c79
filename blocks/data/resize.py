"""Boxes of pictures at another size, by torch's kernel for bytes or by Pillow's filters."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from blocks.data.augment.pillow import FILTERS
from blocks.data.decode import Box, Picture, pixels

RESIZES = ("torch", "pillow")
IN_TORCH = ("bilinear", "bicubic")  # the filters that its kernel for bytes has
SCALES = (8, 4)  # at which a JPEG takes less time than the box alone does; at half its scale it takes more


def resized(picture: Picture, box: Box, size: tuple[int, int], interpolation: str, resize: str) -> Tensor:
    """A box (top, left, height, width) at a size (H, W): uint8 [H, W, 3]. Raises UnreadableImage.

    By "pillow" the pixels are those of crop and resize. By "torch" some differ by a grey level, and a large box of
    a JPEG, at least four times the size both ways, is decoded at 1/4 or 1/8 of its scale, never below the size: beside
    the other a photograph has a PSNR of 38 decibels, in the median. What torch has no kernel for is Pillow's.
    """
    if resize == "torch" and interpolation in IN_TORCH:
        small = _at_reduced_scale(picture, box, size, interpolation)
        return by_torch(pixels(picture, box), size, interpolation) if small is None else small
    image = Image.fromarray(pixels(picture, box))
    return torch.from_numpy(np.array(image.resize(size[::-1], FILTERS[interpolation])))


def _at_reduced_scale(picture: Picture, box: Box, size: tuple[int, int], interpolation: str) -> Tensor | None:
    top, left, height, width = box
    scale = next((s for s in SCALES if height >= s * size[0] and width >= s * size[1]), None)
    image = picture.reduced(scale) if scale and not isinstance(picture, Image.Image) else None
    if image is None or scale is None:
        return None
    corners = (left / scale, top / scale, (left + width) / scale, (top + height) / scale)
    return torch.from_numpy(np.array(image.resize(size[::-1], FILTERS[interpolation], corners)))


def by_torch(array: np.ndarray, size: tuple[int, int], interpolation: str) -> Tensor:
    """All of a picture at a size (H, W): uint8 [h, w, 3] -> uint8 [H, W, 3]."""
    return scaled(torch.from_numpy(array), size, interpolation)


def scaled(image: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """The same on any device. Only the CPU has a kernel for bytes: on others some pixels differ by a grey level."""
    if image.shape[:2] == size:
        return image
    planes = image[None].permute(0, 3, 1, 2)  # pixel after pixel in memory, in which form torch has a kernel for bytes
    scale = _in_bytes if image.device.type == "cpu" else _in_floats
    return scale(planes, size, interpolation)[0].permute(1, 2, 0)


def _in_bytes(planes: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    return F.interpolate(planes, size, mode=interpolation, antialias=True)


def _in_floats(planes: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    return _in_bytes(planes.float(), size, interpolation).round_().clamp_(0, 255).to(torch.uint8)
