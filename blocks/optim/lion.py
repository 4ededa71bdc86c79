"""Lion: the sign of an interpolated momentum (Chen et al. 2023, algorithm 2)."""

from collections.abc import Iterator, Mapping

import attrs
import torch
from torch import Tensor

from blocks.optim.groups import Grouped, Part
from blocks.optim.knobs import are_betas
from blocks.optim.lists import add_scaled_, decay_, scale_
from blocks.optim.schedule import Schedule
from blocks.optim.skipping import keeping, unless, zero_where


@attrs.frozen
class Lion(Grouped):
    """State {"exp_avg": {dotted name: tensor}, "count": int64 []}."""

    betas: tuple[float, float] = attrs.field(validator=are_betas)

    @property
    def slots(self) -> tuple[str, ...]:
        return ("exp_avg",)

    def step_(self, parts: Iterator[Part], number: Tensor, skip: Tensor | None) -> None:
        """params <- (1 - lr * weight_decay) * params - lr * sign(b1 * mean + (1 - b1) * grad), then the mean by b2."""
        for part in parts:
            grads, lr, (means,) = zero_where(skip, part.grads), unless(skip, part.lr), part.slots
            signs = torch._foreach_sign(torch._foreach_lerp(means, grads, 1 - self.betas[0]))
            decay_(part.params, lr, part.weight_decay)
            add_scaled_(part.params, signs, -lr)
            scale_(means, keeping(skip, self.betas[1]))
            torch._foreach_add_(means, grads, alpha=1 - self.betas[1])


def lion(
    schedule: Schedule | float,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float | Schedule = 0.5,
    *,
    no_decay: tuple[str, ...] | None = None,
    lr_scales: Mapping[str, float] | None = None,
    wake: Mapping[str, int] | None = None,
) -> Lion:
    """Lion with a schedule or a constant rate, 3 to 10 times below AdamW's, and a decay as much above (section 5).

    See `adamw` for `no_decay`, `lr_scales` and `wake`.
    """
    return Lion(schedule, weight_decay, no_decay, lr_scales, wake, betas)
