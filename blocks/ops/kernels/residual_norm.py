"""A residual branch joins the stream, and the stream's layer norm: one reading, one writing, in each direction.

Rows are handled whole, each number once. What all rows add to, the gradients of weight, bias and gamma, is summed by
each program over its share of the rows, and those sums after it: no atomics.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton import knobs

from blocks.ops.kernels.fusion import FUSED

NUMBERS = 2048  # of a tile: 16 a thread
PROGRAMS = 1024  # of the backward pass: eight for each of an H100's multiprocessors


def forward(
    x: Tensor, branch: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor | None, scales: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(stream, its norm, means, reciprocal deviations): x, branch [B, .., D], vectors [D], scales [B] -> .., [rows]."""
    x, branch = x.contiguous(), branch.contiguous()
    dtype = torch.promote_types(x.dtype, branch.dtype)
    stream, normed = (torch.empty_like(x, dtype=dtype) for _ in range(2))
    rows, dim = x.numel() // x.shape[-1], x.shape[-1]
    mean, deviation = (torch.empty(rows, dtype=torch.float32, device=x.device) for _ in range(2))
    layout = _layout(dim)
    _forward[(triton.cdiv(rows, layout["ROWS"]),)](
        *(x, branch, weight.contiguous(), bias.contiguous(), *_optional(gamma, scales, x)),
        *(stream, normed, mean, deviation, eps, rows, rows // x.shape[0]),
        HAS_GAMMA=gamma is not None,
        HAS_SCALES=scales is not None,
        **layout,
    )
    return stream, normed, mean, deviation


def backward(
    grad_stream: Tensor,
    grad_normed: Tensor,
    stream: Tensor,
    mean: Tensor,
    deviation: Tensor,
    weight: Tensor,
    branch: Tensor | None,
    gamma: Tensor | None,
    scales: Tensor | None,
    branch_dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x in the stream's type, and of branch, weight, bias, gamma; `branch` itself is wanted with gamma.

    Without gamma and scales the branch's is x's, and with one type of both it is not written again but empty, [0].
    """
    rows, dim = mean.numel(), weight.numel()
    layout = _layout(dim)
    grad_x = torch.empty_like(stream)
    same = gamma is None and scales is None and branch_dtype == stream.dtype
    grad_branch = stream.new_empty(0) if same else torch.empty_like(stream, dtype=branch_dtype)
    share = triton.cdiv(rows, PROGRAMS * layout["ROWS"]) * layout["ROWS"]
    programs = triton.cdiv(rows, share)
    parts = torch.empty(3 if gamma is not None else 2, programs, dim, dtype=torch.float32, device=stream.device)
    _backward[(programs,)](
        *(grad_stream.contiguous(), grad_normed.contiguous(), stream, mean, deviation, weight.contiguous()),
        *(stream if branch is None else branch.contiguous(), *_optional(gamma, scales, stream)),
        *(grad_x, grad_x if same else grad_branch, parts, rows, rows // stream.shape[0], share),
        HAS_GAMMA=gamma is not None,
        HAS_SCALES=scales is not None,
        SAME=same,
        **layout,
    )
    # a sum each, for an op may not return views of one tensor
    grad_weight, grad_bias = (part.sum(0).to(weight.dtype) for part in parts[:2])
    grad_gamma = mean.new_empty(0) if gamma is None else parts[2].sum(0).to(gamma.dtype)
    return grad_x, grad_branch, grad_weight, grad_bias, grad_gamma


def _layout(dim: int) -> dict:
    wide = triton.next_power_of_2(dim)
    rows = 8 if knobs.runtime.interpret else max(1, NUMBERS // wide)
    return {
        "D": dim,
        "DIM": wide,
        "ROWS": rows,
        **FUSED,
        "num_warps": max(4, min(16, wide * rows // 512)),
    }


def _optional(gamma: Tensor | None, scales: Tensor | None, instead: Tensor) -> tuple[Tensor, Tensor]:
    """What a kernel gets where there is none is never read."""
    return instead if gamma is None else gamma.contiguous(), instead if scales is None else scales.contiguous()


@triton.jit
def _forward(
    X,
    BRANCH,
    WEIGHT,
    BIAS,
    GAMMA,
    SCALES,
    STREAM,
    NORMED,
    MEAN,
    DEVIATION,
    eps,
    rows,
    rows_a_sample,
    HAS_GAMMA: tl.constexpr,
    HAS_SCALES: tl.constexpr,
    D: tl.constexpr,
    DIM: tl.constexpr,
    ROWS: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    d, here = tl.arange(0, DIM), row < rows
    at, mask = row.to(tl.int64)[:, None] * D + d[None, :], here[:, None] & (d < D)[None, :]
    branch = tl.load(BRANCH + at, mask=mask, other=0.0).to(tl.float32)
    if HAS_GAMMA:
        branch *= tl.load(GAMMA + d, mask=d < D, other=0.0).to(tl.float32)[None, :]
    if HAS_SCALES:
        branch *= tl.load(SCALES + row // rows_a_sample, mask=here, other=0.0).to(tl.float32)[:, None]
    stream = tl.load(X + at, mask=mask, other=0.0).to(tl.float32) + branch
    rounded = stream.to(STREAM.dtype.element_ty)
    tl.store(STREAM + at, rounded, mask=mask)
    stream = rounded.to(tl.float32)  # the backward pass sees no other
    mean = tl.sum(stream, 1) / D
    centred = tl.where(mask, stream - mean[:, None], 0.0)
    deviation = tl.rsqrt(tl.sum(centred * centred, 1) / D + eps)
    tl.store(MEAN + row, mean, mask=here)
    tl.store(DEVIATION + row, deviation, mask=here)
    weight = tl.load(WEIGHT + d, mask=d < D, other=0.0).to(tl.float32)[None, :]
    bias = tl.load(BIAS + d, mask=d < D, other=0.0).to(tl.float32)[None, :]
    normed = centred * deviation[:, None] * weight + bias
    tl.store(NORMED + at, normed.to(NORMED.dtype.element_ty), mask=mask)


@triton.jit
def _backward(
    GRAD_STREAM,
    GRAD_NORMED,
    STREAM,
    MEAN,
    DEVIATION,
    WEIGHT,
    BRANCH,
    GAMMA,
    SCALES,
    GRAD_X,
    GRAD_BRANCH,
    PARTS,
    rows,
    rows_a_sample,
    share,
    HAS_GAMMA: tl.constexpr,
    HAS_SCALES: tl.constexpr,
    SAME: tl.constexpr,
    D: tl.constexpr,
    DIM: tl.constexpr,
    ROWS: tl.constexpr,
):
    """A program's share of the rows, ROWS at a time."""
    first, d = tl.program_id(0) * share, tl.arange(0, DIM)
    weight = tl.load(WEIGHT + d, mask=d < D, other=0.0).to(tl.float32)[None, :]
    to_weight = tl.zeros([ROWS, DIM], tl.float32)
    to_bias = tl.zeros([ROWS, DIM], tl.float32)
    to_gamma = tl.zeros([ROWS, DIM], tl.float32)
    if HAS_GAMMA:
        gamma = tl.load(GAMMA + d, mask=d < D, other=0.0).to(tl.float32)[None, :]
    for start in range(0, share, ROWS):
        row = first + start + tl.arange(0, ROWS)
        here = row < rows
        at, mask = row.to(tl.int64)[:, None] * D + d[None, :], here[:, None] & (d < D)[None, :]
        mean = tl.load(MEAN + row, mask=here, other=0.0)[:, None]
        deviation = tl.load(DEVIATION + row, mask=here, other=0.0)[:, None]
        stream = tl.load(STREAM + at, mask=mask, other=0.0).to(tl.float32)
        grad = tl.load(GRAD_NORMED + at, mask=mask, other=0.0).to(tl.float32)
        unit = tl.where(mask, (stream - mean) * deviation, 0.0)
        to_weight += grad * unit
        to_bias += grad
        grad *= weight
        along = tl.sum(grad * unit, 1)[:, None] / D
        grad = deviation * (grad - tl.sum(grad, 1)[:, None] / D - unit * along)
        grad += tl.load(GRAD_STREAM + at, mask=mask, other=0.0).to(tl.float32)
        tl.store(GRAD_X + at, grad.to(GRAD_X.dtype.element_ty), mask=mask)
        if not SAME:
            if HAS_SCALES:
                grad *= tl.load(SCALES + row // rows_a_sample, mask=here, other=0.0).to(tl.float32)[:, None]
            if HAS_GAMMA:
                to_gamma += grad * tl.load(BRANCH + at, mask=mask, other=0.0).to(tl.float32)
                grad *= gamma
            tl.store(GRAD_BRANCH + at, grad.to(GRAD_BRANCH.dtype.element_ty), mask=mask)
    part = PARTS + tl.program_id(0) * D + d
    tl.store(part, tl.sum(to_weight, 0), mask=d < D)
    tl.store(part + tl.num_programs(0) * D, tl.sum(to_bias, 0), mask=d < D)
    if HAS_GAMMA:
        tl.store(part + 2 * tl.num_programs(0) * D, tl.sum(to_gamma, 0), mask=d < D)
