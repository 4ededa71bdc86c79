"""AdamW (Loshchilov and Hutter 2019) with its state as a tree, by torch's fused kernel."""

from collections.abc import Iterator, Mapping

import attrs
import torch
from torch import Tensor

from blocks.optim.groups import Grouped, Part
from blocks.optim.knobs import are_betas, not_negative
from blocks.optim.lists import decay_
from blocks.optim.schedule import Schedule
from blocks.optim.skipping import unless


@attrs.frozen
class AdamW(Grouped):
    """State {"exp_avg": {dotted name: tensor}, "exp_avg_sq": likewise, "count": int64 []}.

    Bit-equal to torch.optim.AdamW(fused=True) with a number for weight decay; a scheduled one is applied beforehand.
    """

    betas: tuple[float, float] = attrs.field(validator=are_betas)
    eps: float = attrs.field(validator=not_negative)

    @property
    def slots(self) -> tuple[str, ...]:
        return "exp_avg", "exp_avg_sq"

    def step_(self, parts: Iterator[Part], number: Tensor, skip: Tensor | None) -> None:
        """See `fused_`."""
        step, found_inf = number.float(), None if skip is None else skip.float()
        for part in parts:
            fused_(part, part.slots[0], part.slots[1], step, self.betas, self.eps, skip, found_inf)


def fused_(
    part: Part,
    means: list[Tensor],
    squares: list[Tensor],
    step: Tensor,
    betas: tuple[float, float],
    eps: float,
    skip: Tensor | None,
    found_inf: Tensor | None,
) -> None:
    """Adam's update, decoupled decay included, by torch's kernel; nothing where skip is true and found_inf 1."""
    weight_decay = part.weight_decay
    if isinstance(weight_decay, Tensor):  # the kernel takes numbers only, and to ask for one would wait for the device
        decay_(part.params, unless(skip, part.lr), weight_decay)
        weight_decay = 0.0
    torch._fused_adamw_(
        part.params, part.grads, means, squares, [], [step] * len(means),
        lr=part.lr, beta1=betas[0], beta2=betas[1], weight_decay=weight_decay, eps=eps,
        amsgrad=False, maximize=False, found_inf=found_inf,
    )  # fmt: skip


def adamw(
    schedule: Schedule | float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float | Schedule = 0.05,
    no_decay: tuple[str, ...] | None = None,
    lr_scales: Mapping[str, float] | None = None,
    *,
    wake: Mapping[str, int] | None = None,
) -> AdamW:
    """AdamW with a schedule or a constant rate.

    `no_decay`: name patterns of params that do not decay, each of which must match; None chooses by role, see `names`.
    `lr_scales`: {name pattern: factor on the rate}, each of which must match, at most one a name; see `scales`.
    `wake`: {name pattern: updates n}: these sleep through the first n updates: no moment, no decay, no step; then they
    begin as in their first, at the schedule's rate. SwAV's prototypes and DINO's last layer are frozen so at first.
    """
    return AdamW(schedule, weight_decay, no_decay, lr_scales, wake, betas, eps)
