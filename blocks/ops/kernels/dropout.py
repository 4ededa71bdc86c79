"""Dropout in one pass: the words are made where they are used, and neither they nor the mask are stored."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from blocks.ops.kernels.fusion import AS_WRITTEN
from blocks.ops.kernels.threefry import FOLD, WRAPPING, block_of

PAIRS = 512  # pairs of neighbours of a program, a threefry block each: 4 a thread, 16 bytes of a two-byte type


def dropout(x: Tensor, keys: Tensor, rate: float, place: int | None) -> Tensor:
    """See `blocks.ops.dropout`: x [B, ...], keys int32 [B, 2] -> like x, contiguous."""
    x, keys = x.contiguous(), keys.contiguous()
    out, size = torch.empty_like(x), x.numel() // len(x)
    chunks = triton.cdiv(size, 2 * PAIRS)
    _dropout[(len(x) * chunks,)](
        x, keys, out, size, chunks, 1 - rate, place, PAIRS=PAIRS, num_warps=4, **AS_WRITTEN, **WRAPPING
    )
    return out


@triton.jit
def _dropout(X, KEYS, OUT, size, chunks, keep, place, PAIRS: tl.constexpr):
    sample, chunk = tl.program_id(0) // chunks, tl.program_id(0) % chunks
    key0, key1 = tl.load(KEYS + 2 * sample), tl.load(KEYS + 2 * sample + 1)
    if place is not None:
        key0, key1 = block_of(key0, key1, place, FOLD)
    first, second = block_of(key0, key1, chunk * PAIRS + tl.arange(0, PAIRS), 0)
    at = chunk * (2 * PAIRS) + tl.arange(0, 2 * PAIRS)
    mask, start = at < size, sample.to(tl.int64) * size
    uniform = (tl.interleave(first, second) >> 8).to(tl.float32) * 5.9604644775390625e-08  # 2**-24
    x = tl.load(X + start + at, mask=mask, other=0.0).to(tl.float32)
    out = tl.where(uniform < keep, tl.div_rn(x, keep), 0.0)
    tl.store(OUT + start + at, out.to(OUT.dtype.element_ty), mask=mask)
