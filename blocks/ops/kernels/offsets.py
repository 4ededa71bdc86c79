"""Offsets in 32 bits, in which kernels count: a large view may reach further, and then a copy of it does not."""

from torch import Tensor

FURTHEST = (1 << 31) - 1


def reachable(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """x, or a contiguous copy where offsets along these axes together do not fit."""
    reach = sum((x.shape[axis] - 1) * x.stride(axis) for axis in axes)
    return x if reach <= FURTHEST else x.contiguous()
