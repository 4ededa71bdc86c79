"""Operations on pixels by themselves, each picture's own in its own order, in one reading and one writing.

Contrast wants a picture's mean grey in the middle of its order: a launch before finds it, in whole numbers. Every
rounding is that of `blocks.data.augment.batched_color` and `batched_hue`, in single and double precision by turns.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from blocks.ops.kernels.fusion import AS_WRITTEN
from blocks.ops.on_device import on_its_device

BLOCK = 512  # pixels of a program: 4 a thread
INVERT, POSTERIZE, SOLARIZE, SOLARIZE_ADD, COLOR, CONTRAST, BRIGHTNESS, HUE, GRAYSCALE = (
    tl.constexpr(number)
    for number in (3, 5, 6, 7, 8, 9, 10, 16, 17)  # those of blocks.data.augment.ops
)


@on_its_device
def colors(images: Tensor, ops: Tensor, args: Tensor, out: Tensor) -> None:
    """Operations [B, K] one after another, at most one contrast a picture: uint8 [B, H, W, 3] -> out, maybe images.

    ops and args lie on the CPU; args are whole for the posterizing mask, the added number and the hue's step.
    """
    count, steps = ops.shape
    pixels = images.shape[1] * images.shape[2]
    programs = triton.cdiv(pixels, BLOCK)
    sums = torch.empty(count, programs, dtype=torch.int32, device=images.device)
    plan = (x.contiguous().to(images.device, non_blocking=True) for x in (ops.int(), args))
    own = images, out, *plan, sums, steps, pixels, programs
    passes = (True, False) if (ops == CONTRAST.value).any() else (False,)
    for summed in passes:
        _walk[(programs, count)](
            *own, SUMMED=summed, HERE=images is out, PARTS=triton.next_power_of_2(programs), BLOCK=BLOCK,
            num_warps=4, **AS_WRITTEN,
        )  # fmt: skip


@triton.jit
def _walk(
    SOURCE,
    OUT,
    OPS,
    ARGS,
    SUMS,
    steps,
    pixels,
    programs,
    SUMMED: tl.constexpr,
    HERE: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A block of one picture's pixels: the sum of its greys before the contrast, or the bytes after all of it."""
    sample, at = tl.program_id(1), tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    done, contrast, row = 0, -1, sample * steps
    for step in range(steps):
        op = tl.load(OPS + row + step)
        done = tl.where(op != 0, step + 1, done)
        contrast = tl.where(op == CONTRAST, step, contrast)
    here, base = at < pixels, sample.to(tl.int64) * pixels * 3
    if (contrast >= 0) if SUMMED else ((done > 0) | (not HERE)):
        red = tl.load(SOURCE + base + 3 * at, mask=here, other=0).to(tl.int32)
        green = tl.load(SOURCE + base + 3 * at + 1, mask=here, other=0).to(tl.int32)
        blue = tl.load(SOURCE + base + 3 * at + 2, mask=here, other=0).to(tl.int32)
        mean = 0 if SUMMED else _mean(SUMS + sample * programs, programs, pixels, contrast, PARTS)
        for step in range(contrast if SUMMED else done):
            op, arg = tl.load(OPS + row + step), tl.load(ARGS + row + step)
            red, green, blue = _done(op, arg, red, green, blue, mean)
        if SUMMED:
            total = tl.sum(tl.where(here, _luma(red, green, blue), 0), 0)
            tl.store(SUMS + sample * programs + tl.program_id(0), total)
        else:
            tl.store(OUT + base + 3 * at, red.to(tl.uint8), mask=here)
            tl.store(OUT + base + 3 * at + 1, green.to(tl.uint8), mask=here)
            tl.store(OUT + base + 3 * at + 2, blue.to(tl.uint8), mask=here)


@triton.jit
def _mean(sums, programs, pixels, contrast, PARTS: tl.constexpr):
    """The mean of a picture's greys, halves up."""
    part = tl.arange(0, PARTS)
    total = tl.sum(tl.load(sums + part, mask=part < tl.where(contrast >= 0, programs, 0), other=0).to(tl.int64), 0)
    return ((2 * total + pixels) // (2 * pixels)).to(tl.int32)


@triton.jit
def _done(op, arg, red, green, blue, mean):
    """One operation on colours, int32 [BLOCK] each of 0 to 255."""
    if op == HUE:
        red, green, blue = _turned(red, green, blue, arg.to(tl.int32))
    elif (op == COLOR) | (op == CONTRAST) | (op == BRIGHTNESS):
        origin = tl.where(op == COLOR, _luma(red, green, blue), tl.where(op == CONTRAST, mean, 0)).to(tl.float32)
        red, green, blue = _blend(origin, red, arg), _blend(origin, green, arg), _blend(origin, blue, arg)
    elif op == GRAYSCALE:
        red = _luma(red, green, blue)
        green, blue = red, red
    elif op != 0:
        red, green, blue = _changed(op, arg, red), _changed(op, arg, green), _changed(op, arg, blue)
    return red, green, blue


@triton.jit
def _changed(op, arg, value):
    """A channel by itself."""
    whole, other = arg.to(tl.int32), 255 - value
    if op == SOLARIZE:
        value = tl.where(value.to(tl.float32) < arg, value, other)
    elif op == SOLARIZE_ADD:
        value = tl.where(value < 128, (value + whole) & 255, value)
    elif op == POSTERIZE:
        value = value & whole
    elif op == INVERT:
        value = other
    return value


@triton.jit
def _luma(red, green, blue):
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


@triton.jit
def _blend(origin, value, factor):
    mixed = origin + factor * (value.to(tl.float32) - origin)
    return tl.minimum(tl.maximum(mixed, 0.0), 255.0).to(tl.int32)


@triton.jit
def _turned(red, green, blue, steps):
    """The hue moved by whole 255ths of the circle, there and back by Pillow's byte-wide HSV."""
    value = tl.maximum(tl.maximum(red, green), blue)
    chroma = value - tl.minimum(tl.minimum(red, green), blue)
    span = tl.maximum(chroma, 1).to(tl.float32)
    red_gap = tl.div_rn((value - red).to(tl.float32), span).to(tl.float64)
    green_gap = tl.div_rn((value - green).to(tl.float32), span).to(tl.float64)
    blue_gap = tl.div_rn((value - blue).to(tl.float32), span).to(tl.float64)
    sixth = tl.where(green == value, 2.0 + red_gap - blue_gap, 4.0 + green_gap - red_gap)
    sixth = tl.where(red == value, blue_gap - green_gap, sixth).to(tl.float32).to(tl.float64) / 6.0 + 1.0
    turn = (sixth - tl.floor(sixth)).to(tl.float32).to(tl.float64)
    hue = tl.where(chroma > 0, (turn * 255.0).to(tl.int32), 0)
    light = value.to(tl.float32)
    share = tl.div_rn(chroma.to(tl.float32), tl.maximum(light, 1.0)) * 255.0
    hue = (hue + steps) & 255
    sector = hue * 6 // 255
    rest = tl.div_rn((hue * 6).to(tl.float32), light * 0.0 + 255.0) - sector.to(tl.float32)
    purity = tl.div_rn(share.to(tl.int32).to(tl.float32), light * 0.0 + 255.0)
    low = _whole(light * (1.0 - purity))
    falling = _whole(light * (1.0 - purity * rest))
    rising = _whole(light * (1.0 - purity * (1.0 - rest)))
    return (
        _by_sector(sector % 6, value, falling, low, rising),
        _by_sector((sector + 4) % 6, value, falling, low, rising),
        _by_sector((sector + 2) % 6, value, falling, low, rising),
    )


@triton.jit
def _whole(x):
    return tl.floor(x + 0.5).to(tl.int32)


@triton.jit
def _by_sector(sector, value, falling, low, rising):
    """Red in each sixth of the circle: full, falling, none, none, rising, full."""
    inner = tl.where(sector == 1, falling, tl.where(sector == 4, rising, low))
    return tl.where((sector == 0) | (sector == 5), value, inner)
