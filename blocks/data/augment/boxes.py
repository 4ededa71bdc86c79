"""Random and central crops, flips: the geometry alone, for a whole batch at once."""

import math

import torch
from torch import Tensor

from blocks.random import uniform

TRIES = 10  # torchvision's RandomResizedCrop
Size = int | tuple[int, int]  # of a square's side, or (height, width)


def sides(size: Size) -> tuple[int, int]:
    """(height, width)."""
    return size if isinstance(size, tuple) else (size, size)


def random_crop_boxes(
    keys: Tensor, heights: Tensor, widths: Tensor, scale: tuple[float, float], ratio: tuple[float, float]
) -> Tensor:
    """Boxes of random area and aspect: keys [B, 2], sizes [B] -> int64 [B, 4] of (top, left, height, width).

    Szegedy et al. 2015, "Going deeper with convolutions", section 6, as in torchvision: the first of ten draws that
    fits, else the largest central box within the aspect range.
    """
    heights, widths = heights.long(), widths.long()
    area, aspect, top, left = uniform(keys, (TRIES, 4)).double().unbind(-1)  # [B, tries]
    area = (heights * widths)[:, None] * torch.lerp(*_ends(scale), area)
    aspect = torch.lerp(*_ends((math.log(ratio[0]), math.log(ratio[1]))), aspect).exp()
    h, w = (area / aspect).sqrt().round().long(), (area * aspect).sqrt().round().long()
    fits = (h > 0) & (h <= heights[:, None]) & (w > 0) & (w <= widths[:, None])
    first = fits.int().argmax(1, keepdim=True)
    h, w, top, left = (x.gather(1, first)[:, 0] for x in (h, w, top, left))
    top, left = (top * (heights - h + 1)).long(), (left * (widths - w + 1)).long()
    boxes = torch.stack((top, left, h, w), 1)
    return torch.where(fits.any(1, keepdim=True), boxes, _central_boxes(heights, widths, ratio))


def flips(keys: Tensor, p: float) -> Tensor:
    """Whether to mirror each sample: keys [B, 2] -> bool [B]."""
    return uniform(keys) < p


def center_crop_box(height: int, width: int, img_size: Size, crop_pct: float) -> tuple[float, float, float, float]:
    """What is left of an image after it is resized to just cover img_size / crop_pct and the centre is cut out.

    (left, top, right, bottom) in the pixels of the stored image: resizing this box alone gives the pixels of resize +
    centre crop, without making the rest. Sizes are rounded as in timm and torchvision; for a square it is the short
    side that is resized.
    """
    (rows, columns), (tall, wide) = sides(img_size), (math.floor(side / crop_pct) for side in sides(img_size))
    if tall * width >= wide * height:  # the height decides
        new_height, new_width = tall, int(tall * width / height)  # wide or more
    else:
        new_height, new_width = int(wide * height / width), wide
    top, left = round((new_height - rows) / 2), round((new_width - columns) / 2)
    y, x = height / new_height, width / new_width
    return left * x, top * y, (left + columns) * x, (top + rows) * y


def _central_boxes(heights: Tensor, widths: Tensor, ratio: tuple[float, float]) -> Tensor:
    """The largest central box with an aspect (width / height) in the range: [B] -> int64 [B, 4]."""
    w = torch.minimum(widths, (heights * ratio[1]).round().long()).clamp(min=1)
    h = torch.minimum(heights, (widths / ratio[0]).round().long()).clamp(min=1)
    return torch.stack(((heights - h) // 2, (widths - w) // 2, h, w), 1)


def _ends(interval: tuple[float, float]) -> tuple[Tensor, Tensor]:
    low, high = interval
    return torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64)
