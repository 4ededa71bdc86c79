"""Pictures to one uint8 batch. A random transform is a function of the samples' keys."""

from collections.abc import Iterator, Sequence

import attrs
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from blocks.data.augment.batched_ops import apply_plan
from blocks.data.augment.batched_resize import crop_resize
from blocks.data.augment.boxes import Size, center_crop_box, flips, random_crop_boxes, sides
from blocks.data.augment.checks import crop_share, interval, one_of, picture_size, pixels, share
from blocks.data.augment.color_jitter import ColorJitter, as_jitter
from blocks.data.augment.ops import FILL
from blocks.data.augment.parse import policy as parsed
from blocks.data.augment.pillow import AFFINE_FILTERS, FILTERS, apply_all
from blocks.data.augment.plan import Plan, Policy
from blocks.data.decode import Encoded, rgb
from blocks.random import fold_in

FLIP, POLICY, JITTER = 1, 2, 3  # what a sample's folded keys are for; the crop draws from the sample's own
HOMES = ("workers", "device")


def _policy(value: Policy | str | None) -> Policy | None:
    """A policy's string stands for it, the empty one for none."""
    if isinstance(value, str):
        return parsed(value) if value else None
    if value is not None and not hasattr(value, "draw"):
        raise ValueError(f"policy {value!r} draws no plans; use RandAugment() or 'rand-m9-mstd0.5-inc1'")
    return value


@attrs.frozen(eq=False)
class Draws:
    """What was drawn for a batch: boxes int64 [B, 4], mirrored bool [B], plan of [B, K]; all on the CPU."""

    boxes: Tensor
    mirrored: Tensor
    plan: Plan

    def rows(self) -> Iterator[tuple[list[int], bool, list[int], list[float]]]:
        """Box, mirrored, ops and args, picture by picture."""
        columns = (self.boxes, self.mirrored, self.plan.ops, self.plan.args)
        return zip(*(column.tolist() for column in columns), strict=True)


@attrs.frozen
class TrainTransform:
    """Random resized crop, mirror, policy, colour jitter: pictures, keys -> uint8 [B, H, W, 3].

    `img_size` is H = W, or (H, W); the crop's aspect (width / height) is in `ratio`, whatever these are. `home` says
    where: all of it by Pillow in the loader's `workers`; or only a canvas there and the rest on the `device`, batched,
    by `finish`. A canvas is a square of `canvas` pixels (or else of the longer side of `img_size`): the resized centre,
    so that the ends of a long picture are lost. What is drawn is the same function of key and size in both. `fill` is
    what affine operations bring in from outside.
    """

    img_size: Size = attrs.field(validator=picture_size)
    scale: tuple[float, float] = attrs.field(default=(0.08, 1.0), validator=interval(0, 1))
    ratio: tuple[float, float] = attrs.field(default=(3 / 4, 4 / 3), validator=interval(1e-3, 1e3))
    flip: float = attrs.field(default=0.5, validator=share)
    interpolation: str = attrs.field(default="bicubic", validator=one_of(FILTERS))
    policy: Policy | None = attrs.field(default=None, converter=_policy)  # or "rand-m9-mstd0.5-inc1"
    color_jitter: ColorJitter | None = attrs.field(default=None, converter=as_jitter)  # 0.3, (0.4, 0.4, 0.4, 0.1) ...
    home: str = attrs.field(default="workers", validator=one_of(HOMES))
    canvas: int | None = attrs.field(default=None, validator=attrs.validators.optional(pixels))
    fill: tuple[int, int, int] = FILL

    def __attrs_post_init__(self) -> None:
        if self.canvas is not None and self.home != "device":
            raise ValueError(f"canvas {self.canvas} has no use with home {self.home!r}; it is for home='device'")
        if self.policy is not None and self.interpolation not in AFFINE_FILTERS:
            allowed = ", ".join(AFFINE_FILTERS)
            raise ValueError(f"interpolation {self.interpolation!r} cannot rotate or shear; a policy takes {allowed}")

    def __call__(self, images: Sequence[Image.Image | Encoded], keys: Tensor) -> Tensor:
        """The batch, for home "device" the canvases; each row depends on its own picture and key alone."""
        pictures = [rgb(image) for image in images]
        if self.home == "device":
            return canvases(pictures, self.canvas or max(sides(self.img_size)), self.interpolation)
        widths, heights = torch.tensor([picture.size for picture in pictures]).unbind(1)
        rows = self.draw(keys, heights, widths).rows()
        made = [self._picture(picture, *row) for picture, row in zip(pictures, rows, strict=True)]
        return torch.from_numpy(np.stack(made))

    def draw(self, keys: Tensor, heights: Tensor, widths: Tensor) -> Draws:
        """Everything random: keys [B, 2], sizes [B], all on the CPU."""
        plan = Plan(torch.empty(len(keys), 0, dtype=torch.int64), torch.empty(len(keys), 0))
        for policy, use in ((self.policy, POLICY), (self.color_jitter, JITTER)):
            plan = plan.then(policy.draw(fold_in(keys, use))) if policy is not None else plan
        boxes = random_crop_boxes(keys, heights, widths, self.scale, self.ratio)
        mirrored = flips(fold_in(keys, FLIP), self.flip) if self.flip else torch.zeros(len(keys), dtype=torch.bool)
        return Draws(boxes, mirrored, plan)

    def finish(self, images: Tensor, keys: Tensor) -> Tensor:
        """Canvases uint8 [B, H, W, 3] on any device, keys [B, 2] on the CPU -> uint8 [B, *img_size, 3].

        With keys [V B, 2] V rounds of all the pictures, one after the other.
        """
        heights, widths = (torch.full((len(keys),), side) for side in images.shape[1:3])
        draws = self.draw(keys, heights, widths)
        batch = crop_resize(images, draws.boxes, self.img_size, self.interpolation, draws.mirrored)
        return apply_plan(batch, draws.plan, self.fill, self.interpolation)

    def _picture(
        self, image: Image.Image, box: list[int], mirrored: bool, ops: list[int], args: list[float]
    ) -> np.ndarray:
        top, left, height, width = box
        crop = image.crop((left, top, left + width, top + height))
        crop = crop.resize(sides(self.img_size)[::-1], FILTERS[self.interpolation])
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else crop
        return np.asarray(apply_all(crop, ops, args, self.interpolation, self.fill))


@attrs.frozen
class EvalTransform:
    """Resize to just cover img_size / crop_pct, cut the centre: B pictures -> uint8 [B, H, W, 3]; H = W, or (H, W)."""

    img_size: Size = attrs.field(validator=picture_size)
    crop_pct: float = attrs.field(default=0.875, validator=crop_share)
    interpolation: str = attrs.field(default="bicubic", validator=one_of(FILTERS))

    def __call__(self, images: Sequence[Image.Image | Encoded], keys: Tensor | None = None) -> Tensor:
        """The batch; the keys are not used."""
        pictures = [rgb(image) for image in images]
        boxes = [center_crop_box(image.height, image.width, self.img_size, self.crop_pct) for image in pictures]
        return _resized(pictures, boxes, self.img_size, self.interpolation)


def canvases(images: Sequence[Image.Image | Encoded], size: int, interpolation: str) -> Tensor:
    """Squares of one size: uint8 [B, size, size, 3].

    Pictures that are one stay as they are; of others the short side is resized and the centre cut out.
    """
    pictures = [rgb(image) for image in images]
    boxes = [center_crop_box(image.height, image.width, size, crop_pct=1.0) for image in pictures]
    return _resized(pictures, boxes, size, interpolation)


def _resized(images: list[Image.Image], boxes: list, img_size: Size, interpolation: str) -> Tensor:
    height, width = sides(img_size)
    batch = np.empty((len(images), height, width, 3), np.uint8)
    for row, image, box in zip(batch, images, boxes, strict=True):
        row[:] = np.asarray(image.resize((width, height), FILTERS[interpolation], box))
    return torch.from_numpy(batch)
