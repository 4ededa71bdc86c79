"""Rows of cross-entropy with soft targets, one read of the scores each way; nothing of their size is kept.

A program has a row of a view. It forms the target as it goes: the sum of the codes that the view predicts, or a label,
then smoothed. The programs of a sample's views run side by side, so that its codes are read from memory once.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from blocks.ops.kernels.fusion import FUSED
from blocks.ops.kernels.tables import Tables

WIDEST = 4096  # numbers of a row at a time; 8 warps keep 16 KB of float32 in flight
COUNTS = Tables(torch.int32)
IGNORED = tl.constexpr(-100)  # the label of a row without loss, as in torch


def cross_entropy_forward(
    scores: Tensor, targets: Tensor, counts: tuple[int, ...], inverse: float, keep: float, spread: float
) -> tuple[Tensor, Tensor]:
    """(losses, log sums of exp(scores inverse)), float32 [V, N] each, of scores [V, N, K].

    The target is keep * codes + spread: of codes [A, N, K], each as often as counts, V x A numbers, says; or, without
    counts, of the labels int64 [N].
    """
    losses, log_sums = (scores.new_empty(scores.shape[:2], dtype=torch.float32) for _ in range(2))
    if losses.numel():
        grid, sizes, table = _launch(scores, targets, counts)
        _forward[grid](scores, targets, table, losses, log_sums, inverse, keep, spread, *sizes[0], **sizes[1])
    return losses, log_sums


def cross_entropy_backward(
    scores: Tensor,
    targets: Tensor,
    counts: tuple[int, ...],
    log_sums: Tensor,
    grad: Tensor,
    inverse: float,
    keep: float,
    spread: float,
) -> Tensor:
    """The gradient of the scores, contiguous and in their type, where `grad` [V, N] is that of the losses."""
    out = torch.empty_like(scores, memory_format=torch.contiguous_format)
    if out.numel():
        grid, sizes, table = _launch(scores, targets, counts)
        tensors = scores, targets, table, log_sums, grad.float().contiguous(), out
        _backward[grid](*tensors, inverse, keep, spread, *sizes[0], **sizes[1])
    return out


def _launch(
    scores: Tensor, targets: Tensor, counts: tuple[int, ...]
) -> tuple[tuple[int], tuple[tuple, dict], Tensor | None]:
    """(grid, (sizes and strides, what is compiled in), the counts on the device)."""
    views, rows, width = scores.shape
    block = min(WIDEST, triton.next_power_of_2(width))
    strides = targets.stride() if counts else (0, targets.stride(0), 0)
    sizes = views, rows, width, len(targets) if counts else 0, *scores.stride(), *strides
    warps = 8 if block >= 2048 else 4 if block >= 512 else 1
    table = COUNTS(counts, lambda: counts, scores.device) if counts else None
    return (views * rows,), (sizes, {"BLOCK": block, "LABELS": not counts, "num_warps": warps} | FUSED), table


@triton.jit
def _target(
    targets, counts, view, row, cols, width, num_codes, t_view, t_row, t_col, keep, spread, LABELS: tl.constexpr
):
    """What the scores of these columns should predict; 0 where the row does not count."""
    inside = cols < width
    if LABELS:
        label = tl.load(targets + row * t_row)
        target = tl.where(inside, tl.where(cols == label, keep, 0.0) + spread, 0.0)
        target = tl.where((label >= 0) & (label < width), target, float("nan"))  # an unknown label is told
        target = tl.where(label == IGNORED, 0.0, target)
    else:
        target = tl.zeros(cols.shape, tl.float32)
        for place in range(num_codes):
            count = tl.load(counts + view * num_codes + place)
            at = targets + (row * 0 + place) * t_view + row * t_row + cols * t_col  # in int64, as row is
            target += count.to(tl.float32) * tl.load(at, mask=tl.where(inside, count, 0) > 0, other=0.0).to(tl.float32)
        target = tl.where(inside, keep * target + spread, 0.0)
    return target


@triton.jit
def _forward(
    scores, targets, counts, losses, log_sums, inverse, keep, spread,
    views, rows, width, num_codes, s_view, s_row, s_col, t_view, t_row, t_col,
    BLOCK: tl.constexpr, LABELS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    row, view = program // views, program % views
    top, total, hit, mass = float("-inf"), 0.0, 0.0, 0.0
    for start in range(0, width, BLOCK):
        cols = start + tl.arange(0, BLOCK).to(tl.int64)
        at = scores + view * s_view + row * s_row + cols * s_col
        x = tl.load(at, mask=cols < width, other=float("-inf")).to(tl.float32) * inverse
        target = _target(targets, counts, view, row, cols, width, num_codes, t_view, t_row, t_col, keep, spread, LABELS)
        higher = tl.maximum(top, tl.max(x, 0))
        shift = tl.where(higher == float("-inf"), 0.0, higher)  # or -inf - -inf
        total = total * tl.exp(top - shift) + tl.sum(tl.exp(x - shift), 0)
        hit += mass * tl.where(
            top == float("-inf"), 0.0, top - shift
        )  # it is counted from the top: large scores cancel
        hit += tl.sum(target * tl.where(target == 0.0, 0.0, x - shift), 0)  # a score of -inf may be no one's target
        mass += tl.sum(target, 0)
        top = higher
    tl.store(losses + view * rows + row, mass * tl.log(total) - hit)
    tl.store(log_sums + view * rows + row, top + tl.log(total))


@triton.jit
def _backward(
    scores, targets, counts, log_sums, grads, out, inverse, keep, spread,
    views, rows, width, num_codes, s_view, s_row, s_col, t_view, t_row, t_col,
    BLOCK: tl.constexpr, LABELS: tl.constexpr,
):  # fmt: skip
    """out = (softmax * sum of target - target) * grad * inverse."""
    program = tl.program_id(0).to(tl.int64)
    row, view = program // views, program % views
    log_sum = tl.load(log_sums + view * rows + row)
    grad = tl.load(grads + view * rows + row) * inverse
    mass = 0.0
    for start in range(0, width, BLOCK):  # where a block holds the row, the second loop finds it in the first's cache
        cols = start + tl.arange(0, BLOCK).to(tl.int64)
        mass += tl.sum(
            _target(targets, counts, view, row, cols, width, num_codes, t_view, t_row, t_col, keep, spread, LABELS), 0
        )
    for start in range(0, width, BLOCK):
        cols = start + tl.arange(0, BLOCK).to(tl.int64)
        inside = cols < width
        at = scores + view * s_view + row * s_row + cols * s_col
        x = tl.load(at, mask=inside, other=float("-inf")).to(tl.float32) * inverse
        target = _target(targets, counts, view, row, cols, width, num_codes, t_view, t_row, t_col, keep, spread, LABELS)
        slope = (tl.exp(x - log_sum) * mass - target) * grad
        tl.store(out + (view * rows + row) * width + cols, slope.to(out.dtype.element_ty), mask=inside)
