"""NT-Xent's log-sum-exps and their gradient, the scores made tile by tile on chip and never stored.

A program has a block of rows and a part of everyone; the parts' results lie side by side and are added in one order.
The sizes of blocks are fixed: choosing them by a measurement at run time would choose the order of summation too.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from blocks.ops.kernels.dot import dot
from blocks.ops.kernels.fusion import FUSED

ROWS, COLS = 128, 32  # of a tile: the largest whose gradient does not spill, with 128 numbers a row in float32
PROGRAMS = 264  # two for each of an H100's multiprocessors


def log_sums(rows: Tensor, everyone: Tensor, views: int, inverse: float) -> Tensor:
    """log of the sum over other images of exp(rows everyone^T inverse): float32 [m], of [m, E] and [M, E].

    The rows are everyone's first m, `views` of an image side by side.
    """
    m, parts, sizes, options = _launch(rows, everyone, views)
    out = rows.new_empty(parts, m, dtype=torch.float32)
    _sums[(triton.cdiv(m, ROWS), parts)](rows, everyone, out, inverse, *sizes, **options)
    return out[0] if parts == 1 else out.logsumexp(0)


def log_sums_backward(
    rows: Tensor, everyone: Tensor, sums: Tensor, grads: Tensor, views: int, inverse: float
) -> Tensor:
    """What all rows' log-sum-exps `sums` [M], with gradients `grads` [M], say about the rows: float32 [m, E]."""
    m, parts, sizes, options = _launch(rows, everyone, views)
    out = rows.new_empty(parts, *rows.shape, dtype=torch.float32)
    tensors = rows, everyone, sums.contiguous(), grads.float().contiguous(), out
    _pull[(triton.cdiv(m, ROWS), parts)](*tensors, inverse, *sizes, **options)
    return out.sum(0)


def _launch(rows: Tensor, everyone: Tensor, views: int) -> tuple[int, int, tuple[int, ...], dict]:
    """(rows, parts of everyone, sizes and strides, what is compiled in)."""
    (m, width), blocks = rows.shape, triton.cdiv(len(everyone), COLS)
    parts = min(blocks, triton.cdiv(PROGRAMS, triton.cdiv(m, ROWS)))
    sizes = m, len(everyone), width, views, triton.cdiv(blocks, parts), *rows.stride(), *everyone.stride()
    wide = max(16, triton.next_power_of_2(width))  # 16: the least that tensor cores take
    options = {"ROWS": ROWS, "COLS": COLS, "WIDE": wide, "PRECISION": "tf32x3", "num_warps": 8, "num_stages": 1} | FUSED
    return m, triton.cdiv(blocks, triton.cdiv(blocks, parts)), sizes, options


@triton.jit
def _tile(x, place, col, count, width, s_row, s_col):
    """Rows `place` of x [count, width], 0 outside."""
    inside = (place < count)[:, None] & (col < width)[None, :]
    return tl.load(x + place[:, None] * s_row + col[None, :].to(tl.int64) * s_col, mask=inside, other=0.0)


@triton.jit
def _scores(mine, theirs, row, place, total, views, inverse, PRECISION: tl.constexpr):
    """Scores of rows with others, -inf within an image and beyond the last."""
    zero = tl.zeros((row.shape[0], place.shape[0]), tl.float32)
    scores = dot(mine, tl.trans(theirs), zero, PRECISION) * inverse
    others = (row // views)[:, None] != (place // views)[None, :]
    return tl.where(others & (place < total)[None, :], scores, float("-inf"))


@triton.jit
def _sums(
    rows, everyone, out, inverse, m, total, width, views, blocks, r_row, r_col, e_row, e_col,
    ROWS: tl.constexpr, COLS: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    row, col = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDE)
    mine = _tile(rows, row, col, m, width, r_row, r_col)
    top = tl.full((ROWS,), float("-inf"), tl.float32)
    found = tl.zeros((ROWS,), tl.float32)
    first = tl.program_id(1).to(tl.int64) * blocks * COLS
    for start in range(first, tl.minimum(first + blocks * COLS, total), COLS):
        place = start + tl.arange(0, COLS).to(tl.int64)
        theirs = _tile(everyone, place, col, total, width, e_row, e_col)
        scores = _scores(mine, theirs, row, place, total, views, inverse, PRECISION)
        higher = tl.maximum(top, tl.max(scores, 1))
        shift = tl.where(higher == float("-inf"), 0.0, higher)  # or -inf - -inf
        found = found * tl.exp(top - shift) + tl.sum(tl.exp(scores - shift[:, None]), 1)
        top = higher
    tl.store(out + tl.program_id(1) * m + row, top + tl.log(found), mask=row < m)  # of nothing: -inf


@triton.jit
def _pull(
    rows, everyone, sums, grads, out, inverse, m, total, width, views, blocks, r_row, r_col, e_row, e_col,
    ROWS: tl.constexpr, COLS: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Row i: inverse times the sum over j of (grad_i exp(s_ij - sum_i) + grad_j exp(s_ij - sum_j)) everyone_j."""
    row, col = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDE)
    mine = _tile(rows, row, col, m, width, r_row, r_col)
    sum_i, grad_i = tl.load(sums + row, mask=row < m, other=0.0), tl.load(grads + row, mask=row < m, other=0.0)
    pulled = tl.zeros((ROWS, WIDE), tl.float32)
    first = tl.program_id(1).to(tl.int64) * blocks * COLS
    for start in range(first, tl.minimum(first + blocks * COLS, total), COLS):
        place = start + tl.arange(0, COLS).to(tl.int64)
        theirs = _tile(everyone, place, col, total, width, e_row, e_col)
        scores = _scores(mine, theirs, row, place, total, views, inverse, PRECISION)
        sum_j = tl.load(sums + place, mask=place < total, other=0.0)
        grad_j = tl.load(grads + place, mask=place < total, other=0.0)
        counts = scores > float("-inf")  # where no image is another, the sums are -inf too
        own = tl.exp(tl.where(counts, scores - sum_i[:, None], float("-inf"))) * grad_i[:, None]
        weights = own + tl.exp(tl.where(counts, scores - sum_j[None, :], float("-inf"))) * grad_j[None, :]
        pulled = dot(weights, theirs, pulled, PRECISION)
    inside = (row < m)[:, None] & (col < width)[None, :]
    place_out = (tl.program_id(1) * m + row[:, None]) * width + col[None, :]
    tl.store(out + place_out, pulled * inverse, mask=inside)
