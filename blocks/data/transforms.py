"""Pictures to one uint8 batch. A random transform is a function of the samples' keys."""

from collections import Counter
from collections.abc import Iterator, Sequence

import attrs
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from blocks.checks import one_of
from blocks.data.augment.batched_ops import apply_plan
from blocks.data.augment.batched_resize import crop_resize
from blocks.data.augment.boxes import Size, flips, random_crop_boxes, sides
from blocks.data.augment.checks import crop_share, interval, picture_size, pixels, share
from blocks.data.augment.color_jitter import ColorJitter, as_jitter
from blocks.data.augment.ops import FILL
from blocks.data.augment.parse import policy as parsed
from blocks.data.augment.pillow import AFFINE_FILTERS, FILTERS, apply_all
from blocks.data.augment.plan import Plan, Policy
from blocks.data.canvas import Canvas, covering
from blocks.data.decode import Box, Picture, decoded
from blocks.data.memory import empty
from blocks.data.resize import RESIZES, resized
from blocks.data.undecoded import DECODES, check_decode, undecoded
from blocks.data.views import Pictures
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

    def rows(self) -> Iterator[tuple[Box, bool, list[int], list[float]]]:
        """Box, mirrored, ops and args, picture by picture."""
        columns = (self.boxes, self.mirrored, self.plan.ops, self.plan.args)
        return zip(*(column.tolist() for column in columns), strict=True)


@attrs.frozen
class TrainTransform:
    """Random resized crop, mirror, policy, colour jitter: pictures, keys -> uint8 [B, H, W, 3].

    `img_size` is H = W, or (H, W); the crop's aspect (width / height) is in `ratio`, whatever these are. `home` says
    where: all of it in the loader's `workers`, one by one; or only a canvas there and the rest on the `device`, batched
    by `finish`. A canvas is a square of `canvas` pixels (or else of the longer side of `img_size`): the resized centre,
    so that the ends of a long picture are lost. What is drawn is the same function of key and size in both. `fill` is
    what affine operations bring in from outside. `resize` "torch" is fast, "pillow" has the pixels of torchvision's and
    timm's transforms on the same box (see `resized`); `finish` always has Pillow's. With `decode` "device" (and home
    "device") the workers hand over plain JPEGs as they are stored, and the loader's device decodes and cuts them.
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
    resize: str = attrs.field(default="torch", validator=one_of(RESIZES))
    decode: str = attrs.field(default="workers", validator=one_of(DECODES))

    def __attrs_post_init__(self) -> None:
        if self.canvas is not None and self.home != "device":
            raise ValueError(f"canvas {self.canvas} has no use with home {self.home!r}; it is for home='device'")
        if self.policy is not None and self.interpolation not in AFFINE_FILTERS:
            allowed = ", ".join(AFFINE_FILTERS)
            raise ValueError(f"interpolation {self.interpolation!r} cannot rotate or shear; a policy takes {allowed}")
        check_decode(self.decode, self.home, self.cut)

    def __call__(self, images: Sequence[Picture], keys: Tensor) -> Tensor | Pictures:
        """The batch; for home "device" the canvases, or what becomes them there.

        Each row depends on its own picture and key alone. Only the boxes are decoded, but for pictures that come
        several times.
        """
        if self.home == "device":
            return undecoded(images, self.cut) if self.decode == "device" else self.cut(images)
        widths, heights = torch.tensor([image.size for image in images]).unbind(1)
        rows = self.draw(keys, heights, widths).rows()
        batch = empty(len(images), *sides(self.img_size), 3)
        for out, picture, row in zip(batch, decoded_once(images), rows, strict=True):
            out.copy_(self._picture(picture, *row))
        return batch

    @property
    def cut(self) -> Canvas:
        """What the workers make of a picture at home "device"."""
        return Canvas(self.canvas or max(sides(self.img_size)), self.interpolation, self.resize)

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

    def _picture(self, picture: Picture, box: Box, mirrored: bool, ops: list[int], args: list[float]) -> Tensor:
        crop = resized(picture, box, sides(self.img_size), self.interpolation, self.resize)
        crop = crop.flip(1) if mirrored else crop
        if not any(ops):
            return crop
        made = apply_all(Image.fromarray(crop.numpy()), ops, args, self.interpolation, self.fill)
        return torch.from_numpy(np.array(made))


@attrs.frozen
class EvalTransform:
    """Resize to just cover img_size / crop_pct, cut the centre: B pictures -> uint8 [B, H, W, 3]; H = W, or (H, W)."""

    img_size: Size = attrs.field(validator=picture_size)
    crop_pct: float = attrs.field(default=0.875, validator=crop_share)
    interpolation: str = attrs.field(default="bicubic", validator=one_of(FILTERS))

    def __call__(self, images: Sequence[Picture], keys: Tensor | None = None) -> Tensor:
        """The batch; the keys are not used. Pictures are decoded whole and resized by Pillow: the published pixels."""
        return covering(images, self.img_size, self.crop_pct, self.interpolation)


def decoded_once(images: Sequence[Picture]) -> Iterator[Picture]:
    """Pictures that come several times are decoded whole: for two boxes already that takes less time."""
    times, once = Counter(map(id, images)), {id(image): image for image in images}
    whole = {place: decoded(image) for place, image in once.items() if times[place] > 1}
    return (whole.get(id(image), image) for image in images)
