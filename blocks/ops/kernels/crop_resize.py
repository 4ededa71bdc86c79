"""Crop, antialiased resize and mirror in Pillow's own integers: each byte is made from the taps of its box alone.

One launch finds the weights, in double precision; two run along one axis each, for Pillow rounds to bytes in between.
Which axis comes first is each box's own.
"""

import triton
import triton.language as tl
from torch import Tensor

from blocks.ops.kernels.fusion import AS_WRITTEN
from blocks.ops.on_device import on_its_device

BITS, UNIT = tl.constexpr(22), tl.constexpr(1 << 22)  # a weight of one, in bits and whole
NEAREST_EVEN = tl.constexpr(1.5 * 2**52)  # added to a float64 and taken away again it leaves the nearest whole number
ROWS, COLS = 4, 128  # bytes of a tile: one warp, 16 a thread


@on_its_device
def crop_resize(
    images: Tensor, boxes: Tensor, mirrored: Tensor, size: tuple[int, int], support: int, taps: int
) -> Tensor:
    """uint8 [B, H, W, 3], boxes [V B, 4] and bool [V B] on the CPU -> uint8 [V B, S, T, 3]; support 0 is nearest.

    No box has more than `taps` pixels under a filter.
    """
    (pictures, height, width, _), (rows, cols), count = images.shape, size, len(boxes)
    images, longest = images.contiguous(), max(size)
    boxes, mirrored = (x.contiguous().to(images.device, non_blocking=True) for x in (boxes.int(), mirrored))
    first = boxes.new_empty(2, count, longest)
    weights = boxes.new_empty(2, count, taps, longest)
    _weights[(triton.cdiv(longest, COLS), 2, count)](
        *(boxes, mirrored, first, weights, count, rows, cols, longest, taps),
        SUPPORT=support, BLOCK=COLS, num_warps=1, **AS_WRITTEN,
    )  # fmt: skip
    between = images.new_empty(count, max(height * cols, rows * width) * 3)
    resized = images.new_empty(count, rows, cols, 3)
    for last, tall, wide in ((False, max(height, rows), max(width, cols)), (True, rows, cols)):
        _along[(triton.cdiv(3 * wide, COLS), triton.cdiv(tall, ROWS), count)](
            *(between if last else images, resized if last else between, boxes, first, weights),
            *(pictures, height, width, count, rows, cols, longest, taps, between.shape[1]),
            SUPPORT=support, LAST=last, ROWS=ROWS, COLS=COLS, num_warps=1, **AS_WRITTEN,
        )  # fmt: skip
    return resized


@triton.jit
def _weights(
    BOXES,
    MIRRORED,
    FIRST,
    WEIGHTS,
    count,
    rows,
    cols,
    longest,
    taps,
    SUPPORT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The first pixel under each filter, and whole weights: [2, B, S], [2, B, taps, S], pixels counted in the box."""
    axis, sample = tl.program_id(1), tl.program_id(2)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = place < longest
    side = tl.where(axis == 0, rows, cols)
    length = tl.load(BOXES + sample * 4 + 2 + axis)
    turned = (axis == 1) & (tl.load(MIRRORED + sample) != 0)
    scale = length.to(tl.float64) / side.to(tl.float64)
    centre = (tl.where(turned, side - 1 - place, place).to(tl.float64) + 0.5) * scale
    row = axis.to(tl.int64) * count + sample
    to = WEIGHTS + row * taps * longest + place
    if SUPPORT == 0:
        tl.store(FIRST + row * longest + place, centre.to(tl.int32), mask=here)
        tl.store(to, tl.full([BLOCK], UNIT, tl.int32), mask=here)
    else:
        stretch = tl.maximum(scale, 1.0)
        reach = SUPPORT * stretch
        first = tl.maximum((centre - reach + 0.5).to(tl.int32), 0)
        last = tl.minimum((centre + reach + 0.5).to(tl.int32), length)
        total = tl.zeros([BLOCK], tl.float64)
        for tap in range(taps):
            total += _weight(first + tap, last, centre, stretch, SUPPORT)
        total = tl.where(place < side, total, 1.0)  # behind the shorter side's end is nothing
        for tap in range(taps):
            share = _weight(first + tap, last, centre, stretch, SUPPORT) / total * UNIT
            whole = (share + NEAREST_EVEN) - NEAREST_EVEN
            tl.store(to + tap * longest, whole.to(tl.int32), mask=here)
        tl.store(FIRST + row * longest + place, first, mask=here)


@triton.jit
def _weight(tap, last, centre, stretch, SUPPORT: tl.constexpr):
    """The filter at a pixel, before the weights are made to sum to one: see `blocks.data.augment.batched_resize`."""
    x = tl.abs((tap.to(tl.float64) - centre + 0.5) / stretch)
    if SUPPORT == 1:
        value = tl.maximum(1 - x, 0.0)
    elif SUPPORT == 2:
        inner, outer = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
        value = tl.where(x < 1, inner, tl.where(x < 2, outer, 0.0))
    else:
        value = tl.where(x < 3, _sinc(x) * _sinc(x / 3), 0.0)
    return tl.where(tap < last, value, 0.0)


@triton.jit
def _sinc(x):
    angle = x * 3.141592653589793
    return tl.where(x == 0, 1.0, tl.sin(angle) / tl.where(x == 0, 1.0, angle))


@triton.jit
def _along(
    SOURCE,
    OUT,
    BOXES,
    FIRST,
    WEIGHTS,
    pictures,
    height,
    width,
    count,
    rows,
    cols,
    longest,
    taps,
    between,
    SUPPORT: tl.constexpr,
    LAST: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
):
    """A tile of bytes along the first axis or the last; what lies between is the box's own, packed."""
    sample = tl.program_id(2)
    top, left = tl.load(BOXES + sample * 4), tl.load(BOXES + sample * 4 + 1)
    box_rows, box_cols = tl.load(BOXES + sample * 4 + 2), tl.load(BOXES + sample * 4 + 3)
    tall = box_rows - rows > 2 * tl.maximum(box_cols - cols, 0)  # the rule of Pillow 13: columns first
    across = tall == LAST
    if LAST:
        made_rows, made_cols = rows, cols
        pitch = 3 * tl.where(tall, box_cols, cols)
        source = SOURCE + sample.to(tl.int64) * between
        out = OUT + sample.to(tl.int64) * rows * cols * 3
    else:
        made_rows, made_cols = tl.where(tall, rows, box_rows), tl.where(tall, box_cols, cols)
        pitch = 3 * width
        corner = (top.to(tl.int64) * width + left) * 3
        source = SOURCE + (sample % pictures).to(tl.int64) * height * width * 3 + corner
        out = OUT + sample.to(tl.int64) * between
    first_row, first_col = tl.program_id(1) * ROWS, tl.program_id(0) * COLS
    if (first_row < made_rows) & (first_col < 3 * made_cols):
        row, col = first_row + tl.arange(0, ROWS), first_col + tl.arange(0, COLS)
        if across:
            line = (count + sample).to(tl.int64) * longest
            used = _used(box_cols, cols, taps, SUPPORT)
            total = _across(
                source,
                FIRST + line,
                WEIGHTS + line * taps,
                row,
                col,
                made_rows,
                made_cols,
                pitch,
                box_cols,
                longest,
                used,
            )
        else:
            line = sample.to(tl.int64) * longest
            used = _used(box_rows, rows, taps, SUPPORT)
            total = _down(
                source,
                FIRST + line,
                WEIGHTS + line * taps,
                row,
                col,
                made_rows,
                made_cols,
                pitch,
                box_rows,
                longest,
                used,
            )
        made = tl.minimum(tl.maximum((total + UNIT // 2) >> BITS, 0), 255)
        mask = (row < made_rows)[:, None] & (col < 3 * made_cols)[None, :]
        tl.store(out + row[:, None] * made_cols * 3 + col[None, :], made.to(tl.uint8), mask=mask)


@triton.jit
def _used(length, side, taps, SUPPORT: tl.constexpr):
    """How many taps the filters of this box have at most."""
    stretch = tl.maximum(length.to(tl.float64) / side, 1.0)
    return tl.minimum((2 * SUPPORT * stretch).to(tl.int32) + 1, taps)


@triton.jit
def _across(source, FIRST, WEIGHTS, row, col, rows, cols, pitch, length, longest, used):
    """Sums of weighted neighbours in a row: row [R], col [C] -> int32 [R, C]. Behind the box a weight is 0."""
    place, here = col // 3, col < 3 * cols
    first = tl.load(FIRST + place, mask=here, other=0)
    at = source + row[:, None] * pitch + (col % 3)[None, :]
    total = row[:, None] * 0 + col[None, :] * 0
    for tap in range(used):
        weight = tl.load(WEIGHTS + tap * longest + place, mask=here, other=0)
        pixel = 3 * tl.minimum(first + tap, length - 1)
        value = tl.load(at + pixel[None, :], mask=(row < rows)[:, None] & here[None, :], other=0)
        total += weight[None, :] * value.to(tl.int32)
    return total


@triton.jit
def _down(source, FIRST, WEIGHTS, row, col, rows, cols, pitch, length, longest, used):
    """Sums of weighted neighbours in a column: row [R], col [C] -> int32 [R, C]."""
    here = row < rows
    first = tl.load(FIRST + row, mask=here, other=0)
    total = row[:, None] * 0 + col[None, :] * 0
    for tap in range(used):
        weight = tl.load(WEIGHTS + tap * longest + row, mask=here, other=0)
        line = pitch * tl.minimum(first + tap, length - 1)
        value = tl.load(source + line[:, None] + col[None, :], mask=here[:, None] & (col < 3 * cols)[None, :], other=0)
        total += weight[:, None] * value.to(tl.int32)
    return total
