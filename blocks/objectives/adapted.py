"""A teacher that learned from images of another size or normalisation than the student's."""

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from blocks.block import Params
from blocks.objectives.distillation import Teacher
from blocks.ops.numbers import numbers_on

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _channels(_, attribute: attrs.Attribute, value: tuple[float, ...]) -> None:
    if len(value) != 3:
        raise ValueError(f"{attribute.name} {value} is not one number a channel; give three")


def _deviations(_, attribute: attrs.Attribute, value: tuple[float, ...]) -> None:
    if len(value) != 3 or min(value) <= 0:
        raise ValueError(f"{attribute.name} {value} is not three deviations above 0")


@attrs.frozen
class Adapted:
    """A teacher on the student's images [B, 3, H, W]: normalised by mean and std instead of from_mean and from_std,
    then resized to img_size (bicubic, antialiased), unless that is None or the size they have.

    Means and deviations are of images in [0, 1]; by default all are ImageNet's.
    """

    teacher: Teacher
    img_size: int | tuple[int, int] | None = attrs.field(default=None)
    mean: tuple[float, ...] = attrs.field(default=IMAGENET_MEAN, converter=tuple, validator=_channels)
    std: tuple[float, ...] = attrs.field(default=IMAGENET_STD, converter=tuple, validator=_deviations)
    from_mean: tuple[float, ...] = attrs.field(default=IMAGENET_MEAN, converter=tuple, validator=_channels)
    from_std: tuple[float, ...] = attrs.field(default=IMAGENET_STD, converter=tuple, validator=_deviations)

    @img_size.validator
    def _pixels(self, _: attrs.Attribute, value: int | tuple[int, int] | None) -> None:
        if value is not None and min(value if isinstance(value, tuple) else (value,)) < 1:
            raise ValueError(f"img_size {value} is not a number of pixels; use 1 or more, or None to leave the size")

    def __call__(self, params: Params, images: Tensor) -> Tensor:
        """The teacher's output."""
        return self.teacher(params, self.resized(self.renormalised(images)))

    def renormalised(self, images: Tensor) -> Tensor:
        """(images from_std + from_mean - mean) / std by channel."""
        if (self.mean, self.std) == (self.from_mean, self.from_std):
            return images
        scale = [g / s for g, s in zip(self.from_std, self.std, strict=True)]
        rest = [(f - m) / s for f, m, s in zip(self.from_mean, self.mean, self.std, strict=True)]
        factor, shift = (numbers_on(images.device, tuple(n)).to(images.dtype)[:, None, None] for n in (scale, rest))
        return torch.addcmul(shift, images, factor)

    def resized(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, 3, *img_size], computed in float32 at least."""
        size = (self.img_size, self.img_size) if isinstance(self.img_size, int) else self.img_size
        if size is None or images.shape[-2:] == size:
            return images
        wide = images.to(torch.promote_types(images.dtype, torch.float32))
        return F.interpolate(wide, size=size, mode="bicubic", antialias=True).to(images.dtype)
