"""Pictures to one uint8 batch. A random transform is a function of the samples' keys."""

import attrs
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from blocks.data.augment import center_crop_box, flips, random_crop_boxes
from blocks.random import fold_in

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
FLIP = 1  # the flip's key; the crop draws from the sample's own


def _in_range(low: float, high: float):
    def check(_, attribute, value):
        if not low <= value[0] <= value[1] <= high:
            raise ValueError(f"{attribute.name} {value} is not an interval within {low} to {high}")

    return check


def _known_filter(_, attribute, value):
    if value not in FILTERS:
        raise ValueError(f"{attribute.name} {value!r} is not known; use one of {', '.join(FILTERS)}")


def _positive(_, attribute, value):
    if value < 1:
        raise ValueError(f"{attribute.name} {value} is not a number of pixels")


def _share(_, attribute, value):
    if not 0 <= value <= 1:
        raise ValueError(f"{attribute.name} {value} is not between 0 and 1")


def _crop_share(_, attribute, value):
    if not 0 < value <= 1:
        raise ValueError(f"{attribute.name} {value} is not above 0 and at most 1")


@attrs.frozen
class TrainTransform:
    """Random resized crop and mirror: B pictures, keys [B, 2] -> uint8 [B, img_size, img_size, 3]."""

    img_size: int = attrs.field(validator=_positive)
    scale: tuple[float, float] = attrs.field(default=(0.08, 1.0), validator=_in_range(0, 1))
    ratio: tuple[float, float] = attrs.field(default=(3 / 4, 4 / 3), validator=_in_range(1e-3, 1e3))
    flip: float = attrs.field(default=0.5, validator=_share)
    interpolation: str = attrs.field(default="bicubic", validator=_known_filter)

    def __call__(self, images: list[Image.Image], keys: Tensor) -> Tensor:
        """The batch; each row depends on its own picture and key alone."""
        widths, heights = torch.tensor([image.size for image in images]).unbind(1)
        boxes = random_crop_boxes(keys, heights, widths, self.scale, self.ratio).tolist()
        crops = [
            image.crop((left, top, left + width, top + height))
            for image, (top, left, height, width) in zip(images, boxes, strict=True)
        ]
        batch = _resized(crops, [None] * len(crops), self.img_size, self.interpolation)
        if self.flip:
            mirrored = flips(fold_in(keys, FLIP), self.flip).numpy()
            batch[mirrored] = batch[mirrored, :, ::-1]
        return torch.from_numpy(batch)


@attrs.frozen
class EvalTransform:
    """Resize the short side to img_size / crop_pct, cut the centre: B pictures -> uint8 [B, img_size, img_size, 3]."""

    img_size: int = attrs.field(validator=_positive)
    crop_pct: float = attrs.field(default=0.875, validator=_crop_share)
    interpolation: str = attrs.field(default="bicubic", validator=_known_filter)

    def __call__(self, images: list[Image.Image], keys: Tensor | None = None) -> Tensor:
        """The batch; the keys are not used."""
        boxes = [center_crop_box(image.height, image.width, self.img_size, self.crop_pct) for image in images]
        return torch.from_numpy(_resized(images, boxes, self.img_size, self.interpolation))


def _resized(images: list[Image.Image], boxes: list, img_size: int, interpolation: str) -> np.ndarray:
    batch = np.empty((len(images), img_size, img_size, 3), np.uint8)
    for row, image, box in zip(batch, images, boxes, strict=True):
        row[:] = np.asarray(image.resize((img_size, img_size), FILTERS[interpolation], box))
    return batch
