"""AdamW, clipping, the average of params and their low-precision copy in one pass over all leaves, in one launch.

What is done to a number reads 20 bytes and writes 16, with a copy in half precision 18; one after another, as torch
does it, it is 58. A program has a chunk of a leaf; the leaves' addresses come from a table.
"""

import math
from itertools import chain

import torch
import triton
import triton.language as tl
from torch import Tensor

from blocks.ops.kernels.fusion import FUSED
from blocks.ops.kernels.leaves import CHUNKS, LEAVES, address_in, between, chunks_of
from blocks.ops.kernels.tables import Tables

BLOCK = 2048  # numbers at a time: with 8 warps two loads of 16 bytes a thread and array
CHUNK = 8 * BLOCK  # numbers of a program, that it looks its leaf up once for many
FIELDS = 8  # of a leaf's row: the addresses of param, grad, mean, square, average, copy; its size; when it wakes
TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
FACTORS = Tables(torch.float32)


def adamw_ema_update_(
    columns: tuple[list[Tensor], ...],
    lr_scales: tuple[float, ...],
    decays: tuple[bool, ...],
    wakes: tuple[int, ...],
    scalars: tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor | None],
    numbers: tuple[float, float, float, float, float],
) -> None:
    """See `blocks.ops.adamw_ema`. Columns: params, grads, means, squares, averages, copies, the last two may be empty.

    Scalars: lr, count, skip, factor, weight decay, EMA decay; numbers: betas, eps, weight decay, EMA decay.
    """
    params, grads, _, _, averages, copies = columns
    rows = []
    for place, param in enumerate(params):
        addresses = [column[place].data_ptr() if column else 0 for column in columns]
        rows += [*addresses, param.numel(), wakes[place]]
    device, sizes = params[0].device, tuple(p.numel() for p in params)
    programs = sum(-(-size // CHUNK) for size in sizes)
    if not programs:
        return
    of_leaves, of_chunks = (lr_scales, decays), (sizes, CHUNK)
    beta1, beta2, eps, weight_decay, ema_decay = numbers
    _update[(programs,)](
        LEAVES(tuple(rows), lambda: rows, device),
        FACTORS(of_leaves, lambda: _factors(*of_leaves), device),
        CHUNKS(of_chunks, lambda: chunks_of(*of_chunks), device),
        *scalars,
        1.0 - beta1, 1.0 - beta2, _log(beta1), _log(beta2), eps, weight_decay, 1.0 - ema_decay,
        GRAD=TYPES[grads[0].dtype], COPY=TYPES[copies[0].dtype] if copies else None, AVERAGE=bool(averages),
        ALIGNED=all(address % 16 == 0 for place in range(6) for address in rows[place::FIELDS]),
        FIELDS=FIELDS, CHUNK=CHUNK, BLOCK=BLOCK, num_warps=8,
        **FUSED,
    )  # fmt: skip


def _log(beta: float) -> float:
    """A share's logarithm: 1 - exp(n log beta) keeps its digits where beta**n is near 1."""
    return math.log(beta) if beta else -math.inf


def _factors(lr_scales: tuple[float, ...], decays: tuple[bool, ...]) -> list[float]:
    """[leaves, 2]: the factor on the rate, and 1 for a leaf that decays."""
    return list(chain.from_iterable(zip(lr_scales, map(float, decays), strict=True)))


@triton.jit
def _block(
    param_at, grad_at, mean_at, square_at, average_at, copy_at, offset, size, awake, step_size, root, shrink, factor,
    rest1, rest2, eps, ema_rest, COPY: tl.constexpr, AVERAGE: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """A block's update; without a mask it is read 16 bytes at a time."""
    mask = offset < size if MASKED else None
    param = tl.load(param_at + offset, mask=mask)
    if awake:
        grad = tl.load(grad_at + offset, mask=mask).to(tl.float32) * factor
        mean, square = tl.load(mean_at + offset, mask=mask), tl.load(square_at + offset, mask=mask)
        mean += rest1 * (grad - mean)
        square += rest2 * (grad * grad - square)
        param = param * shrink - step_size * mean / (tl.sqrt(square) / root + eps)
        tl.store(mean_at + offset, mean, mask=mask)
        tl.store(square_at + offset, square, mask=mask)
        tl.store(param_at + offset, param, mask=mask)
    if AVERAGE:
        average = tl.load(average_at + offset, mask=mask)
        tl.store(average_at + offset, between(average, param, ema_rest), mask=mask)
    if COPY is not None:
        tl.store(copy_at + offset, param.to(COPY), mask=mask)


@triton.jit
def _update(
    table, factors, chunks, lr, count, skip, factor, decay, ema_decay,
    rest1, rest2, log1, log2, eps, weight_decay, ema_rest,
    GRAD: tl.constexpr, COPY: tl.constexpr, AVERAGE: tl.constexpr, ALIGNED: tl.constexpr,
    FIELDS: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    skipped = False if skip is None else tl.load(skip) != 0
    if not skipped:
        leaf, place = tl.load(chunks + 2 * tl.program_id(0)), tl.load(chunks + 2 * tl.program_id(0) + 1)
        table += leaf.to(tl.int64) * FIELDS
        param_at, grad_at = address_in(table, 0, tl.float32, ALIGNED), address_in(table, 1, GRAD, ALIGNED)
        mean_at, square_at = address_in(table, 2, tl.float32, ALIGNED), address_in(table, 3, tl.float32, ALIGNED)
        average_at = address_in(table, 4, tl.float32, ALIGNED)
        copy_at = address_in(table, 5, tl.float32 if COPY is None else COPY, ALIGNED)
        size, wake = tl.load(table + 6), tl.load(table + 7)

        updates = tl.load(count)
        number = tl.maximum(updates + 1 - wake, 1).to(tl.float64)
        rate = tl.load(lr).to(tl.float32) * tl.load(factors + 2 * leaf)
        step_size = rate / (1.0 - tl.exp(number * log1)).to(tl.float32)
        root = tl.sqrt((1.0 - tl.exp(number * log2)).to(tl.float32))
        share = weight_decay if decay is None else tl.load(decay).to(tl.float32)
        shrink = 1.0 - rate * share * tl.load(factors + 2 * leaf + 1)
        scale = 1.0 if factor is None else tl.load(factor).to(tl.float32)
        move = ema_rest if ema_decay is None else (1.0 - tl.load(ema_decay).to(tl.float64)).to(tl.float32)

        first = place.to(tl.int64) * CHUNK
        for start in range(first, tl.minimum(first + CHUNK, size), BLOCK):
            offset = start + tl.arange(0, BLOCK).to(tl.int64)
            if start + BLOCK <= size:
                _block(
                    param_at, grad_at, mean_at, square_at, average_at, copy_at, offset, size, updates >= wake,
                    step_size, root, shrink, scale, rest1, rest2, eps, move, COPY, AVERAGE, False,
                )  # fmt: skip
            else:
                _block(
                    param_at, grad_at, mean_at, square_at, average_at, copy_at, offset, size, updates >= wake,
                    step_size, root, shrink, scale, rest1, rest2, eps, move, COPY, AVERAGE, True,
                )  # fmt: skip
