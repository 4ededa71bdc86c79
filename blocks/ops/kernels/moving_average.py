"""The moving average of all leaves in one launch: 8 bytes a number read and 4 written, none of them twice.

A program has a chunk of a leaf; the leaves' addresses come from a table, as the optimizer's do.
"""

import triton
import triton.language as tl
from torch import Tensor

from blocks.ops.kernels.fusion import FUSED
from blocks.ops.kernels.leaves import CHUNKS, LEAVES, address_in, between, chunks_of

BLOCK = 2048  # numbers at a time: with 8 warps two loads of 16 bytes a thread and array
CHUNK = 8 * BLOCK  # numbers of a program
FIELDS = 3  # of a leaf's row: the addresses of the average and of what it follows; its size


def move_(old: list[Tensor], new: list[Tensor], number: float, keep: Tensor | None, skip: Tensor | None) -> None:
    """See `blocks.ops.moving_average`; where `keep` is None the average keeps `number` of itself."""
    rows = [x for a, b in zip(old, new, strict=True) for x in (a.data_ptr(), b.data_ptr(), a.numel())]
    device, sizes = old[0].device, tuple(x.numel() for x in old)
    programs = sum(-(-size // CHUNK) for size in sizes)
    if not programs:
        return
    _move[(programs,)](
        LEAVES(tuple(rows), lambda: rows, device),
        CHUNKS((sizes, CHUNK), lambda: chunks_of(sizes, CHUNK), device),
        keep, skip, 1.0 - number,
        ALIGNED=all(address % 16 == 0 for place in range(2) for address in rows[place::FIELDS]),
        FIELDS=FIELDS, CHUNK=CHUNK, BLOCK=BLOCK, num_warps=8, **FUSED,
    )  # fmt: skip


@triton.jit
def _block(old_at, new_at, offset, size, share, MASKED: tl.constexpr):
    """A block's move; without a mask it is read 16 bytes at a time."""
    mask = offset < size if MASKED else None
    old = tl.load(old_at + offset, mask=mask)
    new = tl.load(new_at + offset, mask=mask)
    tl.store(old_at + offset, between(old, new, share), mask=mask)


@triton.jit
def _move(
    table, chunks, keep, skip, rest, ALIGNED: tl.constexpr, FIELDS: tl.constexpr, CHUNK: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    skipped = False if skip is None else tl.load(skip) != 0
    if not skipped:
        leaf, place = tl.load(chunks + 2 * tl.program_id(0)), tl.load(chunks + 2 * tl.program_id(0) + 1)
        table += leaf.to(tl.int64) * FIELDS
        old_at, new_at = address_in(table, 0, tl.float32, ALIGNED), address_in(table, 1, tl.float32, ALIGNED)
        size = tl.load(table + 2)
        share = rest if keep is None else (1.0 - tl.load(keep).to(tl.float64)).to(tl.float32)
        first = place.to(tl.int64) * CHUNK
        for start in range(first, tl.minimum(first + CHUNK, size), BLOCK):
            offset = start + tl.arange(0, BLOCK).to(tl.int64)
            if start + BLOCK <= size:
                _block(old_at, new_at, offset, size, share, False)
            else:
                _block(old_at, new_at, offset, size, share, True)
