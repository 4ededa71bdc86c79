"""Bytes become what a model gets, in one pass: normalised, erased and mixed; each byte is read once, or twice if mixed.

The numbers are those of PyTorch's operations, bit for bit: true division, noise of the same keys, and the fused
multiply-add that `torch.lerp` has on a GPU (on a CPU since torch 2.15).
"""

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from blocks.ops.kernels.fusion import AS_WRITTEN
from blocks.ops.kernels.threefry import FOLD, WRAPPING, block_of
from blocks.ops.on_device import on_its_device

BLOCK = 512  # pixels of a program: 4 a thread


@on_its_device
def last_pass(
    pictures: Tensor,
    mean: Tensor,
    std: Tensor,
    erased: tuple[str, Tensor, Tensor] | None,
    mixture: Sequence[Tensor] | None,
    out: Tensor,
) -> None:
    """(x - mean) / std of bytes, erased, then mixed: uint8 [B, H, W, 3] -> out [B, 3, H, W], whole images.

    mean, std float32 [3] of bytes; erased: how ("pixel", "rand", "const"), int32 [B, boxes, 6] of (top, left, height,
    width, key), quantiles float32 [65536]; mixture: a `Mixture`'s lam, box and cut. All on one device.
    """
    (count, height, width, _), own = pictures.shape, mean
    how, table, quantiles = erased or (None, own, own)
    lam, box, cut = mixture or (own, own, own)
    _finish[(triton.cdiv(height * width, BLOCK), count)](
        *(pictures, out, mean, std, table, quantiles, lam, box, cut),
        *(pictures.stride(0), out.stride(0), count, height * width, width, table.shape[1] if erased else 0),
        HOW=how, MIXED=mixture is not None, ALIKE=len(lam) == 1, BLOCK=BLOCK, num_warps=4, **AS_WRITTEN, **WRAPPING,
    )  # fmt: skip


@triton.jit
def _finish(
    PICTURES,
    OUT,
    MEAN,
    STD,
    TABLE,
    QUANTILES,
    LAM,
    BOX,
    CUT,
    pitch,
    out_pitch,
    count,
    pixels,
    width,
    boxes,
    HOW: tl.constexpr,
    MIXED: tl.constexpr,
    ALIKE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A block of one image's pixels."""
    sample, at = tl.program_id(1), tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    red, green, blue = _values(PICTURES, MEAN, STD, TABLE, QUANTILES, sample, at, pitch, pixels, width, boxes, HOW)
    if MIXED:
        partner = tl.where((sample ^ 1) < count, sample ^ 1, tl.maximum(count - 2, 0))
        row = 0 if ALIKE else sample
        inside = _inside(BOX + row * 4, at, width)
        blended = (1.0 - tl.load(LAM + row)).to(tl.float32)
        share = tl.where(tl.load(CUT + row) != 0, inside.to(tl.float32), blended)
        if tl.max(share, 0) > 0:
            others = _values(PICTURES, MEAN, STD, TABLE, QUANTILES, partner, at, pitch, pixels, width, boxes, HOW)
            red, green, blue = (
                _lerp(red, others[0], share),
                _lerp(green, others[1], share),
                _lerp(blue, others[2], share),
            )
    to, here = OUT + sample.to(tl.int64) * out_pitch + at, at < pixels
    tl.store(to, red, mask=here)
    tl.store(to + pixels, green, mask=here)
    tl.store(to + 2 * pixels, blue, mask=here)


@triton.jit
def _values(PICTURES, MEAN, STD, TABLE, QUANTILES, sample, at, pitch, pixels, width, boxes, HOW: tl.constexpr):
    """Normalised and erased: red, green, blue, float32 [BLOCK] each."""
    source = PICTURES + sample.to(tl.int64) * pitch + 3 * at
    red = _normal(source, MEAN, STD, at < pixels)
    green = _normal(source + 1, MEAN + 1, STD + 1, at < pixels)
    blue = _normal(source + 2, MEAN + 2, STD + 2, at < pixels)
    if HOW is not None:
        for number in range(boxes):
            box = TABLE + (sample * boxes + number) * 6
            inside = _inside(box, at, width)
            if tl.max(inside.to(tl.int32), 0) > 0:
                new_red, new_green, new_blue = red * 0, red * 0, red * 0
                if HOW != "const":
                    colour = at if HOW == "pixel" else at * 0
                    first, second = block_of(tl.load(box + 4), tl.load(box + 5), colour, FOLD)
                    new_red = tl.load(QUANTILES + ((first & 0xFFFF) ^ 0x8000))
                    new_green = tl.load(QUANTILES + ((first >> 16) ^ 0x8000))
                    new_blue = tl.load(QUANTILES + ((second & 0xFFFF) ^ 0x8000))
                red = tl.where(inside, new_red, red)
                green = tl.where(inside, new_green, green)
                blue = tl.where(inside, new_blue, blue)
    return red, green, blue


@triton.jit
def _normal(source, mean, std, here):
    return tl.div_rn(tl.load(source, mask=here, other=0).to(tl.float32) - tl.load(mean), tl.load(std))


@triton.jit
def _inside(box, at, width):
    """Whether pixels lie in a box of (top, left, height, width)."""
    y, x = at // width - tl.load(box), at % width - tl.load(box + 1)
    return (y >= 0) & (y < tl.load(box + 2)) & (x >= 0) & (x < tl.load(box + 3))


@triton.jit
def _lerp(own, other, share):
    """torch.lerp's: from the nearer end, in one rounding."""
    near = share < 0.5
    return tl.fma(tl.where(near, share, share - 1.0), other - own, tl.where(near, own, other))
