"""Rows by the handful, so that what is made of them needs little memory."""

from collections.abc import Iterator

from torch import Tensor

CPU_TILE = 1 << 20  # numbers, 4 MB: less is slower, for each call costs something too
OTHER_TILE = 1 << 25


def row_tiles(x: Tensor) -> Iterator[slice]:
    """Slices of axis -2 of x [.., N, K], all rows in their order."""
    size = max(1, (CPU_TILE if x.device.type == "cpu" else OTHER_TILE) // x.shape[-1])
    return (slice(start, start + size) for start in range(0, x.shape[-2], size))
