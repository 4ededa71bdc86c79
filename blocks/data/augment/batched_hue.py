"""Hue shifted for a whole batch, through Pillow's byte-wide HSV."""

import torch
from torch import Tensor


def hue(images: Tensor, shifts: Tensor) -> Tensor:
    """Turn every colour on the circle: uint8 [B, H, W, 3], fractions [B] of a turn, on the CPU -> uint8 [B, H, W, 3].

    The shift is cut to whole 255ths, as torchvision's.
    """
    steps = (shifts.double() * 255).to(torch.int32)[:, None, None].to(images.device, non_blocking=True)
    hues, saturation, value = to_hsv(images)
    return to_rgb((hues + steps) & 255, saturation, value)


def to_hsv(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Bytes [B, H, W, 3] -> hue, saturation, value, each int32 [B, H, W] of 0 to 255.

    Smith 1978, "Color gamut transform pairs". Single and double precision alternate as in Pillow: equal for all 2**24
    colours.
    """
    red, green, blue = images.int().unbind(-1)
    value = images.amax(-1).int()
    chroma = value - images.amin(-1)
    span = chroma.clamp(min=1).float()
    red_gap, green_gap, blue_gap = (((value - x) / span).double() for x in (red, green, blue))
    sixth = torch.where(green == value, 2 + red_gap - blue_gap, 4 + green_gap - red_gap)
    sixth = torch.where(red == value, blue_gap - green_gap, sixth).float()
    turn = (_over(sixth.double(), 6) + 1).frac().float()
    hues = (turn.double() * 255).int() * (chroma > 0)
    return hues, (chroma / value.clamp(min=1) * 255).int(), value


def to_rgb(hues: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Hue, saturation, value, each int32 [B, H, W] of 0 to 255 -> uint8 [B, H, W, 3]."""
    sixth = hues * 6 // 255
    rest = _over(hues * 6, 255) - sixth
    purity = _over(saturation, 255)
    low = value * (1 - purity)
    falling = value * (1 - purity * rest)
    rising = value * (1 - purity * (1 - rest))
    value = value.float()
    low, falling, rising = ((x + 0.5).floor() for x in (low, falling, rising))
    choices = torch.stack((value, falling, low, low, rising, value))  # red in each sixth; green, blue: two, four later
    red, green, blue = (choices.gather(0, ((sixth + shift) % 6).long()[None])[0] for shift in (0, 4, 2))
    return torch.stack((red, green, blue), -1).to(torch.uint8)


def _over(numbers: Tensor, divisor: int) -> Tensor:
    """Divided on every device; CUDA multiplies by a plain number's reciprocal."""
    return numbers / torch.full_like(numbers, divisor)
