"""Crop, resize and mirror a whole batch with Pillow's antialiasing filters: the same bytes, by products or kernels."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from blocks.data.augment.batched_fixed_point import separable, split
from blocks.data.augment.boxes import Size, sides
from blocks.data.augment.kernel_limits import MOST_IMAGES, MOST_PIXELS, unsupported
from blocks.ops.choose import Impl, choose

UNIT = 1 << 22  # Pillow's weights are whole multiples of 1 / UNIT
PIXELS_AT_ONCE = 1 << 24  # bounds the memory: up to some 60 bytes for each


def crop_resize(
    images: Tensor, boxes: Tensor, size: Size, interpolation: str, mirrored: Tensor, *, impl: Impl = "auto"
) -> Tensor:
    """Every sample's box at one size (S, T): uint8 [B, H, W, 3], boxes int64 [B, 4], bool [B] -> uint8 [B, S, T, 3].

    Boxes of (top, left, height, width) and `mirrored` lie on the CPU, the images anywhere. Pillow's crop and resize:
    the filter sees the box alone, widens where it shrinks, and runs along one axis after the other with bytes between.
    With [V B] boxes the pictures come V times, round after round. Raises ValueError for an unknown interpolation.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation {interpolation!r} is not known; use one of {', '.join(INTERPOLATIONS)}")
    if choose(impl, images, lambda: _unsupported(images, boxes, sides(size))) != "triton":
        return _by_products(images, boxes, sides(size), interpolation, mirrored)
    from blocks.ops.kernels import crop_resize as kernels  # Triton, only where it is asked for

    support = CURVES[interpolation][0] if interpolation in CURVES else 0
    taps = 2 * math.ceil(support * _most(images, sides(size))) + 1
    return kernels.crop_resize(images, boxes, mirrored, sides(size), support, taps)


def _unsupported(images: Tensor, boxes: Tensor, size: tuple[int, int]) -> str | None:
    if not 0 < len(boxes) <= MOST_IMAGES:
        return f"boxes are {len(boxes)}, and the kernel takes 1 to {MOST_IMAGES}"
    if not 0 < size[0] * size[1] <= MOST_PIXELS:
        return f"crops are {list(size)}, and the kernel makes 1 to {MOST_PIXELS} pixels"
    return unsupported(images)


def _most(images: Tensor, size: tuple[int, int]) -> float:
    """How far any box is shrunk, at most, so that the number of taps does not depend on the boxes."""
    return max(images.shape[1] / size[0], images.shape[2] / size[1], 1)


def _by_products(images: Tensor, boxes: Tensor, size: tuple[int, int], interpolation: str, mirrored: Tensor) -> Tensor:
    """`crop_resize` in PyTorch's operations."""
    (_, height, width, _), (rows_out, columns_out) = images.shape, size
    some, device, most = max(1, PIXELS_AT_ONCE // (height * width)), images.device, _most(images, size)
    filters = _filters(boxes.to(device, non_blocking=True), mirrored, (rows_out, columns_out), most, interpolation)
    tall = boxes[:, 2] - rows_out > 2 * (boxes[:, 3] - columns_out).clamp(min=0)
    resized = images.new_empty(len(boxes), rows_out, columns_out, 3)
    for passes, chosen in ((_rows_first, ~tall), (_columns_first, tall)):  # the rule of Pillow 13
        for rows in chosen.nonzero()[:, 0].split(some):
            rows = rows.to(device, non_blocking=True)
            taps, *parts = (x.index_select(1, rows) for x in filters)
            axes = zip(taps, zip(*parts, strict=True), (rows_out, columns_out), (height, width), strict=True)
            down, across = ([_dense(t[:, :out], x[:, :out], side) for x in xs] for t, xs, out, side in axes)
            resized.index_copy_(0, rows, passes(images.index_select(0, rows % len(images)), down, across))
    return resized


def _rows_first(images: Tensor, down: list[Tensor], across: list[Tensor]) -> Tensor:
    """Shorter rows, then fewer: [n, H, W, 3], weights [n, S, H] and [n, T, W] in two parts -> uint8 [n, S, T, 3]."""
    return separable(images, down, across, UNIT)


def _columns_first(images: Tensor, down: list[Tensor], across: list[Tensor]) -> Tensor:
    return _rows_first(images.transpose(1, 2), across, down).transpose(1, 2)


def _dense(taps: Tensor, weights: Tensor, pixels: int) -> Tensor:
    """Weights of some pixels as weights of all of an axis: int64 and float32 [n, S, taps] -> [n, S, pixels]."""
    none = weights.new_zeros(*weights.shape[:2], pixels + taps.shape[-1])  # unused taps may lie behind the end
    return none.scatter_(2, taps, weights)[..., :pixels]


def _filters(
    boxes: Tensor, mirrored: Tensor, size: tuple[int, int], most: float, interpolation: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels that make each new one, down and across: taps int64, high and low weights float32 [2, B, S, taps].

    S is the longer side; what the shorter has beyond its end means nothing.
    """
    start, length = boxes.T[:, :, None].split(2)  # [2, B, 1]
    places = torch.arange(max(size), device=boxes.device)
    mirrored = torch.stack((torch.zeros_like(mirrored), mirrored)).to(boxes.device, non_blocking=True)
    places = torch.where(mirrored[..., None], size[1] - 1 - places, places)
    side = torch.stack([torch.full_like(length[0], pixels) for pixels in size])
    scale = length.double() / side  # CUDA multiplies by a plain number's reciprocal
    taps, weights = _taps((places + 0.5) * scale, scale.clamp(min=1), length, most, interpolation)
    return taps + start[..., None], *split((weights * UNIT).round())


def _taps(centre: Tensor, stretch: Tensor, length: Tensor, most: float, interpolation: str) -> tuple[Tensor, Tensor]:
    """A box's pixels under filters, and weights: centres [2, B, S], stretch and length [2, B, 1] -> [2, B, S, taps]."""
    if interpolation == "nearest":
        first = centre.long()[..., None]
        return first, torch.ones_like(first, dtype=torch.float64)
    support, curve = CURVES[interpolation]
    first = (centre - support * stretch + 0.5).long().clamp(min=0)
    last = torch.minimum((centre + support * stretch + 0.5).long(), length)
    taps = first[..., None] + torch.arange(math.ceil(support * most) * 2 + 1, device=centre.device)
    weights = curve((taps - centre[..., None] + 0.5) / stretch[..., None])
    weights = torch.where(taps < last[..., None], weights, 0)
    return taps, weights / weights.sum(-1, keepdim=True)


def _triangle(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


def _cubic(x: Tensor) -> Tensor:
    """Keys 1981, "Cubic convolution interpolation for digital image processing", equation 15: a = -1/2."""
    x = x.abs()
    inner, outer = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, inner, torch.where(x < 2, outer, 0))


def _lanczos(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), 0)


CURVES: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {  # support in pixels, weight at a distance
    "bilinear": (1, _triangle),
    "bicubic": (2, _cubic),
    "lanczos": (3, _lanczos),
}
INTERPOLATIONS = ("nearest", *CURVES)
