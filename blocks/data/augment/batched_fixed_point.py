"""Weighted sums of bytes as Pillow makes them, in fixed point, by matrix products that are exact in single precision.

A weight is a whole number w that means w / unit. Split into PART * high + low, both with few bits, its products with
bytes and their sums stay whole numbers below 2**24 (for some dozen weights a sum; a rounding error of more would not
be seen). Weights up to 2**23 pass TF32 unharmed, too.
"""

import torch
from torch import Tensor

PART = 1 << 12


def separable(images: Tensor, down: list[Tensor], across: list[Tensor], unit: int, passes: int = 1) -> Tensor:
    """Rows weighted `passes` times, then columns likewise, bytes after each: uint8 [n, H, W, 3] -> [n, S, T, 3].

    `down` [n, S, H] and `across` [n, T, W] come in `split`'s two parts; several passes leave the size as it is.
    """
    count, height, width, _ = images.shape
    lines = images.transpose(2, 3).reshape(count, height * 3, width).float()
    for _ in range(passes):
        lines = nearest_bytes([lines @ part.mT for part in across], unit)
    lines = lines.view(count, height, 3 * across[0].shape[1])
    for _ in range(passes):
        lines = nearest_bytes([part @ lines for part in down], unit)
    return lines.unflatten(2, (3, across[0].shape[1])).transpose(2, 3).to(torch.uint8)


def split(weights: Tensor) -> list[Tensor]:
    """The high and the low part of whole numbers: float64 [...] -> two of float32 [...]."""
    high = (weights / PART).round()
    return [high.float(), (weights - PART * high).float()]


def nearest_bytes(sums: list[Tensor], unit: int) -> Tensor:
    """The bytes next to (PART * high + low) / unit, halves up: high and low sum, overwritten -> float32."""
    high, low = sums
    low.add_(unit // 2).div_(PART).floor_()
    return high.add_(low).div_(unit // PART).floor_().clamp_(0, 255)
