"""What kernels over many leaves have in common: a row of addresses a leaf, and which chunk of which a program has."""

import torch
import triton
import triton.language as tl

from blocks.ops.kernels.tables import Tables

LEAVES, CHUNKS = Tables(torch.int64), Tables(torch.int32)


def chunks_of(sizes: tuple[int, ...], chunk: int) -> list[int]:
    """[programs, 2]: the leaf and the chunk of it that a program has."""
    return [x for leaf, size in enumerate(sizes) for place in range(-(-size // chunk)) for x in (leaf, place)]


@triton.jit
def address_in(table, field, TYPE: tl.constexpr, ALIGNED: tl.constexpr):
    """The address in a field of a leaf's row, as a pointer; an unaligned one is read number by number."""
    pointer = tl.load(table + field).to(tl.pointer_type(TYPE))
    if ALIGNED:
        pointer = tl.multiple_of(pointer, 16)
    return pointer


@triton.jit
def between(start, end, share):
    """(1 - share) start + share end, exact at both ends, as torch.lerp."""
    return tl.where(share < 0.5, start + share * (end - start), end - (1.0 - share) * (end - start))
