"""The ops of a step's end that `bench/gpu.py` measures: the optimizer, and averages."""

from collections.abc import Callable
from functools import partial
from itertools import chain

import torch
from gpu_case import Case, normal, ours  # bench/gpu_case.py: a script's own folder is on its path
from torch import Tensor

from blocks.ops.adamw_ema import Leaves, Rates, adamw_ema_, adamw_ema_plain_
from blocks.ops.choose import Impl
from blocks.ops.moving_average import moving_average_


def adamw_ema_case(like: Tensor, small: bool) -> Case:
    """Clipping, AdamW and the average of ViT-B's 86.6 million params, in 12 leaves, float32; in place."""
    size, leaves = (64, 2) if small else (7_216_667, 12)
    columns = [[normal(100 * c + i, size, like=like.float(), grad=False) for i in range(leaves)] for c in range(5)]
    columns[3] = [square.square_() for square in columns[3]]
    device, scales = like.device, [1.0] * leaves
    lr, updates = torch.tensor(1e-3, device=device), torch.tensor(3, device=device)
    skip, factor = torch.tensor(False, device=device), torch.tensor(0.5, device=device)

    def one_pass(update_: Callable, *flat: Tensor) -> tuple[Tensor, ...]:
        params, grads, means, squares, averages = (list(flat[c * leaves : (c + 1) * leaves]) for c in range(5))
        own = Leaves(params, grads, means, squares, scales, [True] * leaves, [0] * leaves, averages)
        update_(own, Rates(lr, updates, (0.9, 0.999), 1e-8, 0.05, skip, factor, 0.999))
        return (*params, *averages)

    def parts(*flat: Tensor) -> tuple[Tensor, ...]:
        params, grads, means, squares, averages = (list(flat[c * leaves : (c + 1) * leaves]) for c in range(5))
        torch._fused_adamw_(
            params, list(torch._foreach_mul(grads, factor)), means, squares, [], [(updates + 1).float()] * leaves,
            lr=lr, beta1=0.9, beta2=0.999, weight_decay=0.05, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip
        torch._foreach_lerp_(averages, params, 1 - 0.999)
        return (*params, *averages)

    forms = {"plain": partial(one_pass, adamw_ema_plain_), "torch": parts}
    if like.is_cuda:
        forms["triton"] = partial(one_pass, adamw_ema_)
    return Case(f"{leaves} x {size:,}", list(chain.from_iterable(columns)), forms, (0, 36.0 * leaves * size))


def moving_average_case(like: Tensor, small: bool) -> Case:
    """A teacher that follows ViT-B's 86.6 million params, in 150 leaves, its momentum scheduled, float32; in place."""
    size, leaves = (64, 2) if small else (577_333, 150)
    columns = [[normal(1000 * c + i, size, like=like.float(), grad=False) for i in range(leaves)] for c in range(2)]
    keep = torch.tensor(0.996, dtype=torch.float64, device=like.device)
    skip = torch.tensor(False, device=like.device)

    def move(*flat: Tensor, impl: Impl) -> tuple[Tensor, ...]:
        moving_average_(flat[:leaves], flat[leaves:], keep, skip, impl=impl)
        return flat[:leaves]

    return Case(f"{leaves} x {size:,}", columns[0] + columns[1], ours(move, like.is_cuda), (0, 12.0 * leaves * size))
