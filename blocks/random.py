"""Random keys and what is drawn from them: same key, same numbers, on every device, eager or compiled.

A key is an int32 tensor [..., 2]. Extra leading axes are a batch of keys: drawing `shape` from keys [B, 2]
gives [B, *shape], row i from key i alone. A key may be folded and drawn from: the two never overlap.
"""

import math
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from blocks.threefry import threefry

FOLD = 1 << 30  # second counter word: 0 counts numbers, FOLD counts folded keys, SPLIT split ones
SPLIT = 1 << 29
BITS = {torch.float16: 11, torch.bfloat16: 8}  # of a half precision's fraction


def key(seed: int, device: torch.device | str | None = None) -> Tensor:
    """The key of a seed, any integer from 0 to 2**64 - 1: int32 [2]."""
    if not isinstance(seed, Integral) or not 0 <= seed < 1 << 64:
        raise ValueError(f"seed {seed!r} is out of range; use a whole number from 0 to 2**64 - 1")
    seed = int(seed)
    words = [_signed(seed >> 32), _signed(seed & 0xFFFFFFFF)]
    return torch.tensor(words, dtype=torch.int32, device=device)


def check(key: Any) -> None:
    """Raises ValueError for what is no key."""
    if not isinstance(key, Tensor) or key.dtype != torch.int32 or key.shape[-1:] != (2,):
        said = f"{key.dtype} {list(key.shape)}" if isinstance(key, Tensor) else repr(key)
        seed = key if isinstance(key, Integral) else "seed"
        raise ValueError(f"key {said} is no key, an int32 tensor [..., 2]; make one of a seed: blocks.key({seed})")


def split(key: Tensor, num: int = 2) -> Tensor:
    """`num` independent keys: [..., 2] -> [..., num, 2]."""
    check(key)
    return threefry(key.unsqueeze(-2), _counters(torch.arange(num, device=key.device), SPLIT))


def fold_in(key: Tensor, data: int | Tensor) -> Tensor:
    """The key of (key, number): data [...] of 0 to 2**31 - 1 -> [..., 2], broadcast against the keys.

    Raises ValueError for another number, and for a tensor of fractions.
    """
    check(key)
    whole = not data.is_floating_point() if isinstance(data, Tensor) else isinstance(data, Integral)
    if not whole or (not isinstance(data, Tensor) and not 0 <= data < 1 << 31):
        raise ValueError(f"{data!r} is nothing to fold into a key; use whole numbers from 0 to 2**31 - 1")
    if not isinstance(data, Tensor):
        data = torch.full((), data, device=key.device)  # written there: nothing is copied from the host
    return threefry(key, _counters(data, FOLD))


def per_sample(key: Tensor, batch_size: int) -> Tensor:
    """One key per sample, [B, 2]: a key [2] is folded with the samples' places, keys [B, 2] are taken as they are.

    Raises ValueError for keys of another batch size.
    """
    check(key)
    if key.ndim == 1:
        return fold_in(key, torch.arange(batch_size, device=key.device))
    if key.shape[0] != batch_size:
        raise ValueError(f"{key.shape[0]} keys for a batch of {batch_size}; give one key [2], or one per sample")
    return key


def bits(key: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    """Uniform 32-bit words as int32: keys [..., 2] -> [..., *shape]. A shorter shape gives a prefix of a longer one."""
    check(key)
    count = math.prod(shape)
    blocks = torch.arange((count + 1) // 2, device=key.device)
    words = threefry(key.unsqueeze(-2), _counters(blocks, 0))
    return words.flatten(-2)[..., :count].unflatten(-1, shape) if shape else words[..., 0, 0]


def uniform(key: Tensor, shape: tuple[int, ...] = (), dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniform on [0, 1): keys [..., 2] -> [..., *shape]; of as many random bits as the type holds, 24 in float32."""
    if dtype == torch.float64:
        high, low = bits(key, (*shape, 2)).unbind(-1)
        return (_high_bits(high, 26).double() * 2**27 + _high_bits(low, 27)) * 2**-53
    count = BITS.get(dtype, 24)  # more would be rounded, and up to 1
    return (_high_bits(bits(key, shape), count).float() * 2**-count).to(dtype)


def normal(key: Tensor, shape: tuple[int, ...] = (), dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal: keys [..., 2] -> [..., *shape]; computed in float64 so that devices round to the same number."""
    return truncated_normal(key, shape, -math.inf, math.inf, dtype)


def truncated_normal(
    key: Tensor,
    shape: tuple[int, ...] = (),
    lower: float = -2.0,
    upper: float = 2.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Standard normal conditioned on lower < x < upper (in standard deviations): keys [..., 2] -> [..., *shape].

    Raises ValueError unless lower < upper, and where less than a millionth of the distribution lies between them: what
    double precision tells apart so far out is too coarse.
    """
    if not lower < upper:
        raise ValueError(f"lower {lower} is not below upper {upper}")
    low, high = math.erf(lower / math.sqrt(2)), math.erf(upper / math.sqrt(2))
    if high - low < 2e-6:  # twice the share
        raise ValueError(f"too little of the normal distribution lies between lower {lower} and upper {upper}")
    centred = (_high_bits(bits(key, shape), 32).double() + 0.5) * 2**-32  # in (0, 1), never an end
    return (math.sqrt(2) * torch.erfinv(low + (high - low) * centred)).to(dtype)


def bernoulli(key: Tensor, p: float | Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    """True with probability p: keys [..., 2] -> bool [..., *shape]."""
    return uniform(key, shape) < p


def _counters(low: Tensor, high: int) -> Tensor:
    low = low.to(torch.int32)
    return torch.stack((low, torch.full_like(low, high)), -1)


def _high_bits(words: Tensor, count: int) -> Tensor:
    """The top `count` bits of int32 words as int64 0 .. 2**count - 1."""
    return (words.long() & 0xFFFFFFFF) >> (32 - count)


def _signed(word: int) -> int:
    return word - (1 << 32) if word >= 1 << 31 else word
