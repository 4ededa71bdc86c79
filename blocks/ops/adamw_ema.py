"""AdamW (Loshchilov and Hutter 2019), clipping, the average of params and a copy in half precision, all in one pass.

The form of PyTorch's own kernels, one after another, is `blocks.optim`'s: `Optimizer.update_all_`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from blocks.ops.define import define
from blocks.ops.scattered import scattered

HALVES = (torch.bfloat16, torch.float16)


class Leaves(NamedTuple):  # an attrs object cannot be made in a compiled region
    """Lists of leaves side by side, and by leaf: the factor on the rate, whether it decays, when it wakes.

    A leaf sleeps through the first `wakes` updates: neither it nor its moments move. `averages` (EMA) and `copies` (the
    params in half precision) may be empty.
    """

    params: list[Tensor]
    grads: list[Tensor]
    means: list[Tensor]
    squares: list[Tensor]
    lr_scales: Sequence[float]
    decays: Sequence[bool]
    wakes: Sequence[int]
    averages: Sequence[Tensor] = ()
    copies: Sequence[Tensor] = ()

    def columns(self) -> tuple[list[Tensor], ...]:
        """The lists of tensors."""
        return self.params, self.grads, self.means, self.squares, list(self.averages), list(self.copies)


class Rates(NamedTuple):
    """What an update goes by; tensors are [], on the leaves' device.

    `updates`, int64, is how many there were before. Where `skip` (bool) is true nothing changes. Gradients are
    multiplied by `factor`. The average keeps `ema_decay` of itself.
    """

    lr: Tensor
    updates: Tensor
    betas: tuple[float, float]
    eps: float
    weight_decay: float | Tensor
    skip: Tensor | None = None
    factor: Tensor | None = None
    ema_decay: float | Tensor = 0.0


def adamw_ema_(leaves: Leaves, rates: Rates) -> None:
    """Update params, means and squares, then averages and copies, in place, by the kernel; grads stay as they are."""
    decay, ema = rates.weight_decay, rates.ema_decay
    tensors = [rates.skip, rates.factor, *(x if isinstance(x, Tensor) else None for x in (decay, ema))]
    numbers = [*rates.betas, rates.eps, *(0.0 if isinstance(x, Tensor) else float(x) for x in (decay, ema))]
    scales, decays, wakes = list(map(float, leaves.lr_scales)), list(map(int, leaves.decays)), list(leaves.wakes)
    KERNEL(*leaves.columns(), scales, decays, wakes, rates.lr, rates.updates, *tensors, numbers)


@torch.no_grad()
def adamw_ema_plain_(leaves: Leaves, rates: Rates) -> None:
    """`adamw_ema_` leaf by leaf, as the paper writes it, in the leaves' own precision: its reference."""
    move = torch.tensor(True) if rates.skip is None else ~rates.skip
    for place, (param, grad, mean, square) in enumerate(zip(*leaves.columns()[:4], strict=True)):
        awake = move & (rates.updates >= leaves.wakes[place])
        number = (rates.updates + 1 - leaves.wakes[place]).clamp(min=1).double()
        lr = rates.lr.double() * leaves.lr_scales[place]
        grad = grad.to(param.dtype) * (1.0 if rates.factor is None else rates.factor)
        corrections = [1 - beta**number for beta in rates.betas]
        new_mean, new_square = (
            beta * old + (1 - beta) * new
            for beta, old, new in zip(rates.betas, (mean, square), (grad, grad.square()), strict=True)
        )
        step = new_mean / corrections[0] / ((new_square / corrections[1]).sqrt() + rates.eps)
        new = param * (1 - lr * rates.weight_decay * leaves.decays[place]) - lr * step
        for old, fresh in ((mean, new_mean), (square, new_square), (param, new)):
            old.copy_(torch.where(awake, fresh, old))
        for average in leaves.averages[place : place + 1]:
            average.copy_(torch.where(move, rates.ema_decay * average + (1 - rates.ema_decay) * param, average))
        for copy in leaves.copies[place : place + 1]:
            copy.copy_(torch.where(move, param.to(copy.dtype), copy))


def unsupported(leaves: Leaves) -> str | None:
    """What the kernel cannot do for such leaves."""
    if not leaves.params:
        return "there is no leaf"
    own = {"params": leaves.params, "means": leaves.means, "squares": leaves.squares, "averages": leaves.averages}
    for name, column in own.items():
        if any(x.dtype != torch.float32 for x in column):
            return f"not all {name} are float32"
    for name, column, allowed in (("grads", leaves.grads, (torch.float32, *HALVES)), ("copies", leaves.copies, HALVES)):
        if column and not (len({x.dtype for x in column}) == 1 and column[0].dtype in allowed):
            return f"{name} are not all of one of the types {', '.join(map(str, allowed))}"
    return scattered((x for column in leaves.columns() for x in column), leaves.params[0].device)


def _update_(
    params: list[Tensor],
    grads: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    averages: list[Tensor],
    copies: list[Tensor],
    lr_scales: list[float],
    decays: list[int],
    wakes: list[int],
    lr: Tensor,
    count: Tensor,
    skip: Tensor | None,
    factor: Tensor | None,
    weight_decay: Tensor | None,
    ema_decay: Tensor | None,
    numbers: list[float],
) -> None:
    from blocks.ops.kernels.adamw_ema import adamw_ema_update_

    columns = params, grads, means, squares, averages, copies
    scalars = lr, count, skip, factor, weight_decay, ema_decay
    b1, b2, eps, decay, ema = numbers
    adamw_ema_update_(
        columns, tuple(lr_scales), tuple(map(bool, decays)), tuple(wakes), scalars, (b1, b2, eps, decay, ema)
    )


KERNEL = define(
    "adamw_ema_(Tensor(a!)[] params, Tensor[] grads, Tensor(b!)[] means, Tensor(c!)[] squares, Tensor(d!)[] averages,"
    " Tensor(e!)[] copies, float[] lr_scales, int[] decays, int[] wakes, Tensor lr, Tensor count, Tensor? skip,"
    " Tensor? factor, Tensor? weight_decay, Tensor? ema_decay, float[] numbers) -> ()",
    _update_,
    lambda *_: None,
)
