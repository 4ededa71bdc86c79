"""Box blurs in Pillow's own integers: a launch for each pass along an axis, bytes in between."""

import triton
import triton.language as tl
from torch import Tensor

from blocks.ops.kernels.fusion import AS_WRITTEN
from blocks.ops.on_device import on_its_device

BITS, HALF = tl.constexpr(24), tl.constexpr(1 << 23)  # of a weight's fraction
ROWS, COLS = 4, 128  # bytes of a tile: one warp, 16 a thread


@on_its_device
def box_blurs(images: Tensor, boxes: Tensor, passes: int) -> Tensor:
    """`passes` along the rows, then along the columns: uint8 [B, H, W, 3], whole numbers [B, 2 R + 1] -> uint8.

    The boxes, whose weights mean shares of 2**24, lie on the CPU.
    """
    source, (count, height, width, _) = images.contiguous(), images.shape
    weights = boxes.int().contiguous().to(images.device, non_blocking=True)
    rooms = [source.new_empty(source.shape) for _ in range(2)]
    grid = triton.cdiv(3 * width, COLS), triton.cdiv(height, ROWS), count
    for number in range(2 * passes):
        out = rooms[number % 2]
        _blurred[grid](
            source, out, weights, height, width, boxes.shape[1],
            ACROSS=number < passes, ROWS=ROWS, COLS=COLS, num_warps=1, **AS_WRITTEN,
        )  # fmt: skip
        source = out
    return source


@triton.jit
def _blurred(
    SOURCE,
    OUT,
    WEIGHTS,
    height,
    width,
    taps,
    ACROSS: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
):
    """A tile of bytes from their neighbours on one axis; beyond the border its pixel is repeated."""
    sample = tl.program_id(2)
    row, col = tl.program_id(1) * ROWS + tl.arange(0, ROWS), tl.program_id(0) * COLS + tl.arange(0, COLS)
    place, mask = col // 3, (row < height)[:, None] & (col < 3 * width)[None, :]
    base = sample.to(tl.int64) * height * width * 3
    total = tl.full([ROWS, COLS], HALF, tl.uint32)  # no more than 255.5 times 2**24
    for tap in range(taps):
        weight, step = tl.load(WEIGHTS + sample * taps + tap), tap - taps // 2
        if weight != 0:  # smaller boxes of the same batch
            if ACROSS:
                near = tl.minimum(tl.maximum(place + step, 0), width - 1)
                at = row[:, None] * width * 3 + (3 * near + col % 3)[None, :]
            else:
                near = tl.minimum(tl.maximum(row + step, 0), height - 1)
                at = near[:, None] * width * 3 + col[None, :]
            value = tl.load(SOURCE + base + at, mask=mask, other=0)
            total += value.to(tl.uint32) * weight.to(tl.uint32)
    tl.store(OUT + base + row[:, None] * width * 3 + col[None, :], (total >> BITS).to(tl.uint8), mask=mask)
