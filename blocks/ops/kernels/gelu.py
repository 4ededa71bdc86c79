"""Bias and GELU in one pass, and backward the gradient of the sum together with the bias's, which is a sum over rows.

The bias's gradient is added up by each program over its share of the rows, then over those: no atomics.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton import knobs

from blocks.ops.kernels.fusion import FUSED

COLUMNS = 128  # of a tile: 256 bytes of a row of a two-byte type
SHARES = 64  # parts of the rows: with a width of 3,072, 1,536 programs


def forward(x: Tensor, bias: Tensor) -> Tensor:
    """gelu(x + bias): x [.., D], bias [D] -> like x."""
    x = x.contiguous()
    out, rows = torch.empty_like(x), x.numel() // x.shape[-1]
    layout = _layout()
    grid = (triton.cdiv(rows, layout["ROWS"]), triton.cdiv(x.shape[-1], COLUMNS))
    _forward[grid](x, bias.contiguous(), out, rows, x.shape[-1], **layout)
    return out


def backward(grad: Tensor, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of x and bias from that of `forward`."""
    x, grad = x.contiguous(), grad.contiguous()
    rows, dim = x.numel() // x.shape[-1], x.shape[-1]
    layout = _layout()
    share = triton.cdiv(rows, SHARES * layout["ROWS"]) * layout["ROWS"]
    shares = triton.cdiv(rows, share)
    out = torch.empty_like(x)
    parts = torch.empty(shares, dim, dtype=torch.float32, device=x.device)
    grid = (shares, triton.cdiv(dim, COLUMNS))
    _backward[grid](grad, x, bias.contiguous(), out, parts, rows, dim, share, **layout)
    return out, parts.sum(0).to(bias.dtype)


def _layout() -> dict:
    return {
        "ROWS": 8 if knobs.runtime.interpret else 16,
        "COLUMNS": COLUMNS,
        **FUSED,
        "num_warps": 4,
    }


@triton.jit
def _forward(X, BIAS, OUT, rows, dim, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    at = row.to(tl.int64)[:, None] * dim + column[None, :]
    mask = (row < rows)[:, None] & (column < dim)[None, :]
    x = tl.load(X + at, mask=mask, other=0.0).to(tl.float32)
    x += tl.load(BIAS + column, mask=column < dim, other=0.0).to(tl.float32)[None, :]
    out = x * (0.5 + 0.5 * tl.erf(x * 0.7071067811865476))
    tl.store(OUT + at, out.to(OUT.dtype.element_ty), mask=mask)


@triton.jit
def _backward(GRAD, X, BIAS, OUT, PARTS, rows, dim, share, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    bias = tl.load(BIAS + column, mask=column < dim, other=0.0).to(tl.float32)[None, :]
    to_bias = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, share, ROWS):
        row = tl.program_id(0) * share + start + tl.arange(0, ROWS)
        at = row.to(tl.int64)[:, None] * dim + column[None, :]
        mask = (row < rows)[:, None] & (column < dim)[None, :]
        x = tl.load(X + at, mask=mask, other=0.0).to(tl.float32) + bias
        grad = tl.load(GRAD + at, mask=mask, other=0.0).to(tl.float32)
        cdf = 0.5 + 0.5 * tl.erf(x * 0.7071067811865476)
        grad *= cdf + x * 0.3989422804014327 * tl.exp(-0.5 * x * x)
        grad = grad.to(OUT.dtype.element_ty)
        tl.store(OUT + at, grad, mask=mask)
        to_bias += grad.to(tl.float32)
    tl.store(PARTS + tl.program_id(0) * dim + column, tl.sum(to_bias, 0), mask=column < dim)
