"""The product that kernels use, also where Triton's interpreter has none: of bfloat16."""

import triton
import triton.language as tl
from triton import knobs

INTERPRETED = tl.constexpr(knobs.runtime.interpret)


@triton.jit
def dot(a, b, acc, PRECISION: tl.constexpr):
    """acc + a b, summed in float32: a [M, K], b [K, N], acc [M, N]. On a GPU by the tensor cores of a's type."""
    if INTERPRETED:  # it stores bfloat16 as integers, and multiplies those
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=PRECISION)
