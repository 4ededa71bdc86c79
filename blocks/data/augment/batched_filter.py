"""Operations on neighbourhoods for a whole batch: uint8 [B, H, W, 3] and arguments [B] on the CPU -> uint8."""

import torch
from torch import Tensor

from blocks.data.augment.batched_color import blend
from blocks.data.augment.batched_fixed_point import separable, split
from blocks.data.augment.kernel_limits import unsupported
from blocks.ops.choose import Impl, choose

PASSES = 3  # box blurs that make a Gaussian
UNIT = 1 << 24  # Pillow's fixed point


def sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """Away from, or towards, the smoothed pictures."""
    return blend(smooth(images), images, factors)


def smooth(images: Tensor) -> Tensor:
    """Each pixel with its eight neighbours, five to one: uint8 [B, H, W, 3] -> uint8; the border stays."""
    wide = images.short()
    middle = wide[:, 1:-1, 1:-1]
    total = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
    total = total[:, :, :-2] + total[:, :, 1:-1] + total[:, :, 2:] + 4 * middle
    smoothed = images.clone()
    smoothed[:, 1:-1, 1:-1] = (total / 13 + 0.5).to(torch.uint8)
    return smoothed


def blur(images: Tensor, sigmas: Tensor, *, impl: Impl = "auto") -> Tensor:
    """Gaussian blur as three box blurs along each axis, bytes in between; standard deviations [B] in pixels.

    Gwosdek et al. 2011, "Theoretical foundations of Gaussian convolution by extended box filtering".
    """
    boxes = box_weights(sigmas)
    if choose(impl, images, lambda: unsupported(images)) == "triton":
        from blocks.ops.kernels.blur import box_blurs  # Triton, only where it is asked for

        return box_blurs(images, boxes, PASSES)
    boxes = boxes.to(images.device, non_blocking=True)
    across, down = (split(_band(boxes, size)) for size in (images.shape[2], images.shape[1]))
    return separable(images, down, across, UNIT, PASSES)


def box_weights(sigmas: Tensor) -> Tensor:
    """The box with weaker ends whose threefold blur has a variance: [B] -> whole numbers float64 [B, 2 R + 1] of 2**24.

    In single precision and fixed point, as Pillow finds it.
    """
    variance = sigmas * sigmas / PASSES
    whole = (((12 * variance.double() + 1).sqrt().float() - 1) / 2).floor()
    ends = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    radius = (whole + ends)[:, None]
    whole = radius.floor()
    inner = (torch.full_like(radius, UNIT) / (2 * radius + 1)).floor().double()
    outer = ((UNIT - (2 * whole + 1) * inner) / 2).floor()
    most = int(whole.max()) + 1
    reach = torch.arange(-most, most + 1).abs()
    return torch.where(reach <= whole, inner, torch.where(reach <= whole + 1, outer, 0))


def _band(boxes: Tensor, size: int) -> Tensor:
    """Boxes as matrices, with the first and last pixel repeated at the ends: [B, 2 R + 1] -> [B, size, size]."""
    count, width = boxes.shape
    places = torch.arange(size, device=boxes.device)
    taps = places[:, None] + torch.arange(-(width // 2), width // 2 + 1, device=boxes.device)
    taps = taps.clamp(0, size - 1).expand(count, -1, -1)  # [B, size, 2 R + 1]
    return boxes.new_zeros(count, size, size).scatter_add_(2, taps, boxes[:, None].expand(-1, size, -1))
