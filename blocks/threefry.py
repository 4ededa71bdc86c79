"""Threefry-2x32: the counter-based generator under every random number of this library.

Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". A block of two 32-bit words is a pure
function of a key (two words) and a counter (two words), so any number can be made anywhere, in any order.
"""

import numpy as np
import torch
from torch import Tensor

ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
PARITY = 0x1BD11BDA  # the key schedule's constant, paper section 3.3
WORD = 0xFFFFFFFF
FEW_BLOCKS = 32  # up to here plain ints beat numpy
KERNEL_CHUNK = 1 << 15  # words: the numpy kernel's working set stays in the L2 cache


def threefry_reference(key: Tensor, counter: Tensor) -> Tensor:
    """Words of (key, counter), 20 rounds, in tensor operations: int32 [..., 2] each, broadcast -> int32 [..., 2]."""
    key0, key1 = key.unbind(-1)
    schedule = (key0, key1, key0 ^ key1 ^ PARITY)
    x0, x1 = counter.unbind(-1)
    x0, x1 = x0 + key0, x1 + key1
    for group in range(5):
        for step in range(4):
            x0 = x0 + x1
            x1 = _rotate_left(x1, ROTATIONS[(4 * group + step) % 8]) ^ x0
        x0 = x0 + schedule[(group + 1) % 3]
        x1 = x1 + schedule[(group + 2) % 3] + (group + 1)
    return torch.stack((x0, x1), -1)


def _rotate_left(x: Tensor, r: int) -> Tensor:
    return (x << r) | ((x >> (32 - r)) & ((1 << r) - 1))  # int32 shifts keep the sign: mask it off


torch.library.define("blocks::threefry", "(Tensor key, Tensor counter) -> Tensor")
threefry = torch.ops.blocks.threefry.default
"""`threefry_reference` behind one name: the same words from every device, eager, compiled or under vmap."""

torch.library.impl("blocks::threefry", "default")(threefry_reference)


@torch.library.register_fake("blocks::threefry")
def _(key: Tensor, counter: Tensor) -> Tensor:
    return counter.new_empty(torch.broadcast_shapes(key.shape, counter.shape))


@torch.library.register_vmap("blocks::threefry")
def _(info, in_dims, key: Tensor, counter: Tensor):
    """vmap is broadcasting over one more leading axis."""
    rank = max(x.ndim - (dim is not None) for x, dim in zip((key, counter), in_dims, strict=True))
    batched = [
        x if dim is None else _pad_rank(x.movedim(dim, 0), rank + 1)
        for x, dim in zip((key, counter), in_dims, strict=True)
    ]
    return threefry(*batched), 0


def _pad_rank(x: Tensor, rank: int) -> Tensor:
    return x.reshape(x.shape[0], *(1,) * (rank - x.ndim), *x.shape[1:])


@torch.library.impl("blocks::threefry", "cpu")
def _(key: Tensor, counter: Tensor) -> Tensor:
    """150 tensor operations cost a millisecond of dispatch; numpy's in-place ones a third, plain ints 10 us a block."""
    key, counter = torch.broadcast_tensors(key, counter)
    if counter.numel() <= 2 * FEW_BLOCKS:
        pairs = zip(key.reshape(-1, 2).tolist(), counter.reshape(-1, 2).tolist(), strict=True)
        return torch.tensor([_int_rounds(*k, *c) for k, c in pairs], dtype=torch.int64).int().view(counter.shape)
    words = np.stack([_words(key, 0), _words(key, 1), _words(counter, 0), _words(counter, 1)])
    if words.shape[1] <= KERNEL_CHUNK:
        out = _numpy_rounds(*words)
    else:
        chunks = np.array_split(words, -(-words.shape[1] // KERNEL_CHUNK), axis=1)
        out = np.concatenate([_numpy_rounds(*chunk) for chunk in chunks], axis=1)
    return torch.from_numpy(np.ascontiguousarray(out.T).view(np.int32)).reshape(counter.shape)


def _int_rounds(key0: int, key1: int, x0: int, x1: int) -> tuple[int, int]:
    key0, key1, x0, x1 = key0 & WORD, key1 & WORD, x0 & WORD, x1 & WORD
    schedule = (key0, key1, key0 ^ key1 ^ PARITY)
    x0, x1 = x0 + key0, x1 + key1 & WORD
    for group in range(5):
        for step in range(4):
            r = ROTATIONS[(4 * group + step) % 8]
            x0 = x0 + x1 & WORD
            x1 = (x1 << r & WORD | x1 >> 32 - r) ^ x0
        x0 += schedule[(group + 1) % 3]
        x1 = x1 + schedule[(group + 2) % 3] + group + 1 & WORD
    return x0 & WORD, x1


def _words(x: Tensor, word: int) -> np.ndarray:
    return x[..., word].reshape(-1).numpy().view(np.uint32)


def _numpy_rounds(key0, key1, x0, x1) -> np.ndarray:
    schedule = (key0, key1, key0 ^ key1 ^ np.uint32(PARITY))
    x0, x1 = x0 + key0, x1 + key1
    for group in range(5):
        for step in range(4):
            r = ROTATIONS[(4 * group + step) % 8]
            x0 += x1
            wrapped = x1 >> np.uint32(32 - r)
            x1 <<= np.uint32(r)
            x1 |= wrapped
            x1 ^= x0
        x0 += schedule[(group + 1) % 3]
        x1 += schedule[(group + 2) % 3] + np.uint32(group + 1)
    return np.stack((x0, x1))
