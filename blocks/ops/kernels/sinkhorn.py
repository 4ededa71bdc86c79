"""Sinkhorn's codes: a problem that fits one program is solved on chip; a larger one is swept once an iteration.

A sweep ends an iteration and begins the next: a program makes the shares r of its rows, and what these add to the sums
of all columns. The exponentials are made anew from the scores, which stay in the L2 cache, and no row of them is ever
stored. Programs leave their parts of the sums side by side: added in one order, they are the same every time.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from blocks.collective import maximum, total, world
from blocks.ops.kernels.fusion import FUSED
from blocks.ops.kernels.offsets import reachable

TINY = tl.constexpr(1e-30)  # as in blocks.ops.sinkhorn
ON_CHIP = 1 << 14  # numbers of a problem in the registers of one program of 16 warps, 32 a thread
TILE = 1 << 13  # numbers of a sweep's tile
WIDEST = 1024  # of them in a row
PROGRAMS = 256  # that keep some 132 multiprocessors busy


def sinkhorn_codes(
    scores: Tensor, inverse: Tensor, iterations: int, counted: Tensor | None, bound: float | None
) -> Tensor:
    """Codes [G, B, K] float32 of scores [G, B, K], 1 / epsilon [] float32: see `blocks.ops.sinkhorn`."""
    counted, scores = None if counted is None else counted.contiguous(), reachable(scores, (2,))
    out = torch.empty_like(scores, dtype=torch.float32, memory_format=torch.contiguous_format)
    fits = triton.next_power_of_2(scores.shape[1]) * triton.next_power_of_2(scores.shape[2]) <= ON_CHIP
    if scores.numel() and fits and world()[1] == 1:
        _on_chip(scores, inverse, iterations, counted, bound, out)
    elif scores.numel() or world()[1] > 1:  # a process without samples still takes part in the sums
        _by_sweeps(scores, inverse, iterations, counted, bound, out)
    return out


def _on_chip(
    scores: Tensor, inverse: Tensor, iterations: int, counted: Tensor | None, bound: float | None, out: Tensor
) -> None:
    """One launch, a program a problem."""
    problems, samples, width = scores.shape
    rows, cols = triton.next_power_of_2(samples), triton.next_power_of_2(width)
    _solve[(problems,)](
        scores, counted, out, inverse, bound or 0.0, iterations, samples, width, *scores.stride(),
        ROWS=rows, COLS=cols, COUNTED=counted is not None, BOUNDED=bound is not None,
        num_warps=min(16, max(1, rows * cols // 1024)), **FUSED,
    )  # fmt: skip


def _by_sweeps(
    scores: Tensor, inverse: Tensor, iterations: int, counted: Tensor | None, bound: float | None, out: Tensor
) -> None:
    """One sweep and one sum an iteration, for all problems at once; the sums are those of all processes."""
    problems, samples, width = scores.shape
    cols = min(WIDEST, triton.next_power_of_2(width))
    rows = min(TILE // cols, triton.next_power_of_2(triton.cdiv(max(1, problems * samples), PROGRAMS)))
    programs = triton.cdiv(samples, rows)
    tops, lows = _tops(scores, counted, bound), scores.new_empty(problems, samples, dtype=torch.float32)
    parts = scores.new_empty(problems, programs, width, dtype=torch.float32)
    sums = tops
    for sweep in range(iterations + 1):
        if programs:
            _sweep[(programs, problems)](
                scores, counted, tops, lows, sums, parts, out, inverse, samples, width, *scores.stride(),
                ROWS=rows, COLS=cols, COUNTED=counted is not None, BOUNDED=bound is not None,
                FIRST=sweep == 0, LAST=sweep == iterations, num_warps=4, **FUSED,
            )  # fmt: skip
        sums = sums if sweep == iterations else total(parts.sum(1))


def _tops(scores: Tensor, counted: Tensor | None, bound: float | None) -> Tensor:
    """The largest counted score of each prototype, of all processes: float32 [G, K]; or the bound."""
    shape = len(scores), scores.shape[2]
    if bound is not None:
        return scores.new_full(shape, bound, dtype=torch.float32)
    own = scores if counted is None else scores.masked_fill(~counted.unsqueeze(-1), -torch.inf)
    return maximum(own.amax(1).float() if scores.shape[1] else scores.new_full(shape, -torch.inf).float())


@triton.jit
def _solve(
    scores, counted, out, inverse, bound, iterations, samples, width, s_problem, s_row, s_col,
    ROWS: tl.constexpr, COLS: tl.constexpr, COUNTED: tl.constexpr, BOUNDED: tl.constexpr,
):  # fmt: skip
    problem, inverse = tl.program_id(0).to(tl.int64), tl.load(inverse)
    row, col = tl.arange(0, ROWS), tl.arange(0, COLS)
    inside = (row < samples)[:, None] & (col < width)[None, :]
    at = scores + problem * s_problem + row[:, None].to(tl.int64) * s_row + col[None, :].to(tl.int64) * s_col
    x = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    weight = _weights(counted, row, samples, COUNTED)
    if BOUNDED:
        matrix = tl.where(inside, tl.exp((x - bound) * inverse), 0.0)
        r = weight
    else:
        top = tl.max(tl.where((weight > 0)[:, None], x, float("-inf")), 0)
        x = tl.where(inside, (x - top[None, :]) * inverse, float("-inf"))
        low = tl.where(row < samples, tl.max(x, 1), 0.0)
        matrix = tl.exp(x - low[:, None])
        r = tl.exp(tl.minimum(low, 0.0)) * weight
    columns = tl.zeros((COLS,), tl.float32)
    shares = tl.zeros((ROWS,), tl.float32)
    for _ in range(iterations):
        columns = tl.where(col < width, 1.0 / tl.maximum(tl.sum(matrix * r[:, None], 0), TINY), 0.0)
        columns = columns / tl.max(columns, 0)  # or their scale would drift by K / B an iteration
        shares = 1.0 / tl.maximum(tl.sum(matrix * columns[None, :], 1), TINY)
        r = shares * weight
    place = (problem * samples + row[:, None]) * width + col[None, :]
    tl.store(out + place, matrix * columns[None, :] * shares[:, None], mask=inside)


@triton.jit
def _weights(counted, row, samples, COUNTED: tl.constexpr):
    """1 for a sample that counts, else 0."""
    if COUNTED:
        weight = tl.load(counted + row, mask=row < samples, other=0).to(tl.float32)
    else:
        weight = tl.where(row < samples, 1.0, 0.0)
    return weight


@triton.jit
def _exponents(scores, tops, row, col, samples, width, s_row, s_col, inverse):
    """(score - its prototype's top) inverse of a tile; -inf outside."""
    inside = (row < samples)[:, None] & (col < width)[None, :]
    top = tl.load(tops + col, mask=col < width, other=0.0)
    x = tl.load(scores + row[:, None] * s_row + col[None, :] * s_col, mask=inside, other=0.0).to(tl.float32)
    return tl.where(inside, (x - top[None, :]) * inverse, float("-inf"))


@triton.jit
def _sweep(
    scores, counted, tops, lows, sums, parts, out, inverse, samples, width, s_problem, s_row, s_col,
    ROWS: tl.constexpr, COLS: tl.constexpr, COUNTED: tl.constexpr, BOUNDED: tl.constexpr,
    FIRST: tl.constexpr, LAST: tl.constexpr,
):  # fmt: skip
    problem, inverse = tl.program_id(1).to(tl.int64), tl.load(inverse)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    scores += problem * s_problem
    tops += problem * width
    sums += problem * width
    weight = _weights(counted, row, samples, COUNTED)
    largest = 1.0  # of the columns' factors: 1 / the smallest sum
    if FIRST:
        low = tl.full((ROWS,), float("-inf"), tl.float32)
        if BOUNDED:
            low = tl.zeros((ROWS,), tl.float32)
        else:
            for start in range(0, width, COLS):
                col = start + tl.arange(0, COLS)
                low = tl.maximum(
                    low, tl.max(_exponents(scores, tops, row, col, samples, width, s_row, s_col, inverse), 1)
                )
            low = tl.where(row < samples, low, 0.0)
        tl.store(lows + problem * samples + row, low, mask=row < samples)
        shares = tl.exp(tl.minimum(low, 0.0))
    else:
        low = tl.load(lows + problem * samples + row, mask=row < samples, other=0.0)
        smallest = tl.full((COLS,), float("inf"), tl.float32)
        for start in range(0, width, COLS):
            col = start + tl.arange(0, COLS)
            smallest = tl.minimum(smallest, tl.load(sums + col, mask=col < width, other=float("inf")))
        largest = 1.0 / tl.maximum(tl.min(smallest, 0), TINY)
        found = tl.zeros((ROWS,), tl.float32)
        for start in range(0, width, COLS):
            col = start + tl.arange(0, COLS)
            matrix = tl.exp(_exponents(scores, tops, row, col, samples, width, s_row, s_col, inverse) - low[:, None])
            columns = 1.0 / tl.maximum(tl.load(sums + col, mask=col < width, other=float("inf")), TINY) / largest
            found += tl.sum(matrix * columns[None, :], 1)
        shares = 1.0 / tl.maximum(found, TINY)
    for start in range(0, width, COLS):
        col = start + tl.arange(0, COLS)
        matrix = tl.exp(_exponents(scores, tops, row, col, samples, width, s_row, s_col, inverse) - low[:, None])
        if LAST:
            columns = 1.0 / tl.maximum(tl.load(sums + col, mask=col < width, other=float("inf")), TINY) / largest
            place = out + (problem * samples + row[:, None]) * width + col[None, :]
            inside = (row < samples)[:, None] & (col < width)[None, :]
            tl.store(place, matrix * columns[None, :] * shares[:, None], mask=inside)
        else:
            part = tl.sum(matrix * (shares * weight)[:, None], 0)
            place = (problem * tl.num_programs(0) + tl.program_id(0)) * width + col
            tl.store(parts + place, part, mask=col < width)
