"""Threefry-2x32 in kernels: a block, for whatever draws, and the words of keys and counters in one launch."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from blocks import random, threefry
from blocks.ops.kernels.fusion import AS_WRITTEN
from blocks.ops.kernels.offsets import FURTHEST

PARITY = tl.constexpr(threefry.PARITY)
FOLD = tl.constexpr(random.FOLD)  # the second counter word of folded keys
BLOCK = 256  # threefry blocks of a program: 2 a thread, 16 bytes
WRAPPING = {"sanitize_overflow": False}  # sums of words wrap, also under TRITON_DEBUG, which would stop at them


def words_of(key: Tensor, counter: Tensor) -> Tensor:
    """`blocks.threefry`: int32 [..., 2] each, broadcast -> int32 [..., 2]."""
    key, counter = torch.broadcast_tensors(key, counter)
    out = torch.empty(counter.shape, dtype=torch.int32, device=counter.device)
    if not out.numel():
        return out
    keys, each = trailing(key)
    counters, period = leading(counter)
    blocks = out.numel() // 2
    far = out.numel() + 2 * BLOCK > FURTHEST
    _words[(triton.cdiv(blocks, BLOCK),)](
        keys, counters, out, blocks, each, period, FAR=far, BLOCK=BLOCK, num_warps=4, **AS_WRITTEN, **WRAPPING
    )
    return out


def trailing(pairs: Tensor) -> tuple[Tensor, int]:
    """(the different ones [N, 2], how many neighbours each stands for) of pairs that were broadcast along last axes."""
    each = 1
    while pairs.ndim > 1 and pairs.stride(-2) == 0:
        each *= pairs.shape[-2]
        pairs = pairs.select(-2, 0)
    return pairs.reshape(-1, 2).contiguous(), each


def leading(pairs: Tensor) -> tuple[Tensor, int]:
    """(the different ones [N, 2], N) of pairs that were broadcast along first axes: they repeat from there."""
    while pairs.ndim > 1 and pairs.stride(0) == 0:
        pairs = pairs.select(0, 0)
    return pairs.reshape(-1, 2).contiguous(), math.prod(pairs.shape[:-1])


@triton.jit
def _words(KEYS, COUNTERS, OUT, blocks, each, period, FAR: tl.constexpr, BLOCK: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * BLOCK if FAR else tl.program_id(0) * BLOCK
    block = start + tl.arange(0, BLOCK)
    here = block < blocks
    key, counter = KEYS + 2 * (block // each), COUNTERS + 2 * (block % period)
    first, second = block_of(
        tl.load(key, mask=here, other=0),
        tl.load(key + 1, mask=here, other=0),
        tl.load(counter, mask=here, other=0),
        tl.load(counter + 1, mask=here, other=0),
    )
    word = tl.arange(0, 2 * BLOCK)
    tl.store(OUT + 2 * start + word, tl.interleave(first, second).to(tl.int32), mask=start + word // 2 < blocks)


@triton.jit
def block_of(key0, key1, counter0, counter1):
    """The two words of a key, int32, and a counter, int32 or a number: uint32 of `counter0`'s shape."""
    key0, key1 = key0.to(tl.uint32), key1.to(tl.uint32)
    key2 = key0 ^ key1 ^ PARITY
    first = key0 + counter0
    second = key1 + counter1 + 0 * first
    first, second = _rounds(first, second, 13, 15, 26, 6)
    first, second = _rounds(first + key1, second + key2 + 1, 17, 29, 16, 24)
    first, second = _rounds(first + key2, second + key0 + 2, 13, 15, 26, 6)
    first, second = _rounds(first + key0, second + key1 + 3, 17, 29, 16, 24)
    first, second = _rounds(first + key1, second + key2 + 4, 13, 15, 26, 6)
    return first + key2, second + key0 + 5


@triton.jit
def _rounds(first, second, A: tl.constexpr, B: tl.constexpr, C: tl.constexpr, D: tl.constexpr):
    first += second
    second = ((second << A) | (second >> (32 - A))) ^ first
    first += second
    second = ((second << B) | (second >> (32 - B))) ^ first
    first += second
    second = ((second << C) | (second >> (32 - C))) ^ first
    first += second
    second = ((second << D) | (second >> (32 - D))) ^ first
    return first, second
