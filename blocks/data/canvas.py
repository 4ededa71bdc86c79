"""Pictures of any size at one size, before anything is drawn."""

from collections.abc import Sequence

import attrs
import numpy as np
import torch
from torch import Tensor

from blocks.data.augment.boxes import Size, center_crop_box, sides
from blocks.data.augment.pillow import FILTERS
from blocks.data.decode import Box, Picture, rgb
from blocks.data.memory import empty
from blocks.data.resize import resized


@attrs.frozen
class Canvas:
    """Squares of one size: B pictures -> uint8 [B, size, size, 3].

    Pictures that are one stay as they are; of others the short side is resized and the centre cut out, by "torch"
    from a box of whole pixels.
    """

    size: int
    interpolation: str
    resize: str

    def __call__(self, images: Sequence[Picture], keys: Tensor | None = None) -> Tensor:
        """The batch; the keys are not used."""
        if self.resize == "pillow":
            return covering(images, self.size, 1.0, self.interpolation)
        batch = empty(len(images), self.size, self.size, 3)
        for out, picture in zip(batch, images, strict=True):
            box = whole_pixels(picture.size, self.size)
            out.copy_(resized(picture, box, (self.size, self.size), self.interpolation, self.resize))
        return batch


def whole_pixels(picture_size: tuple[int, int], size: int) -> Box:
    """The central square of a picture (width, height), nearly: at least a pixel, and inside."""
    width, height = picture_size
    left, top, right, bottom = center_crop_box(height, width, size, crop_pct=1.0)
    h, w = max(1, round(bottom - top)), max(1, round(right - left))
    return min(round(top), height - h), min(round(left), width - w), h, w


def covering(images: Sequence[Picture], img_size: Size, crop_pct: float, interpolation: str) -> Tensor:
    """Pictures resized by Pillow to just cover img_size / crop_pct, and their centres: uint8 [B, H, W, 3]."""
    height, width = sides(img_size)
    batch = np.empty((len(images), height, width, 3), np.uint8)
    for row, picture in zip(batch, images, strict=True):
        image = rgb(picture)
        box = center_crop_box(image.height, image.width, img_size, crop_pct)
        row[:] = np.asarray(image.resize((width, height), FILTERS[interpolation], box))
    return torch.from_numpy(batch)
