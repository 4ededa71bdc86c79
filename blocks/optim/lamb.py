"""LAMB: Adam with a rate for each layer (You et al. 2020, algorithm 2)."""

from collections.abc import Iterator, Mapping

import attrs
import torch
from torch import Tensor

from blocks.checks import above_0
from blocks.optim.groups import Grouped, Part
from blocks.optim.knobs import are_betas
from blocks.optim.lists import add_scaled_, scale_, scaled
from blocks.optim.schedule import Schedule
from blocks.optim.skipping import keeping, unless, zero_where


@attrs.frozen
class LAMB(Grouped):
    """State {"exp_avg": {dotted name: tensor}, "exp_avg_sq": likewise, "count": int64 []}.

    A layer's step, Adam's with its decay, is made as long as its weights: times |w| / |step|, at most `max_trust`;
    leaves that do not decay are left out of this, as is usual.
    """

    betas: tuple[float, float] = attrs.field(validator=are_betas)
    eps: float = attrs.field(validator=above_0)
    max_trust: float | None = attrs.field(validator=attrs.validators.optional(above_0))

    @property
    def slots(self) -> tuple[str, ...]:
        return "exp_avg", "exp_avg_sq"

    def step_(self, parts: Iterator[Part], number: Tensor, skip: Tensor | None) -> None:
        """params <- params - lr * trust * (Adam's direction + weight_decay * params)."""
        for part in parts:
            self.remember_(part, skip)
            moves = self.direction(part, number)
            if part.group.decays:
                torch._foreach_mul_(moves, self.trusts(part.params, moves))
            add_scaled_(part.params, moves, -unless(skip, part.lr))

    def remember_(self, part: Part, skip: Tensor | None) -> None:
        """The moving averages of the gradient and of its square, in place."""
        grads, (means, squares) = zero_where(skip, part.grads), part.slots
        scale_(means, keeping(skip, self.betas[0]))
        torch._foreach_add_(means, grads, alpha=1 - self.betas[0])
        scale_(squares, keeping(skip, self.betas[1]))
        torch._foreach_addcmul_(squares, grads, grads, value=1 - self.betas[1])

    def direction(self, part: Part, number: Tensor) -> list[Tensor]:
        """Adam's step of rate 1 with the weight decay's part; `number` counts updates from 1."""
        means, squares = part.slots
        first, second = (1 - beta ** number.double() for beta in self.betas)
        roots = scaled(torch._foreach_sqrt(squares), second.rsqrt())
        torch._foreach_add_(roots, self.eps)
        moves = scaled(torch._foreach_div(means, roots), 1 / first)
        add_scaled_(moves, part.params, part.weight_decay)
        return moves

    def trusts(self, params: list[Tensor], moves: list[Tensor]) -> list[Tensor]:
        """|w| / |step| of each leaf, 1 where one of the two is zero."""
        weights, lengths = (torch.stack(torch._foreach_norm(t)) for t in (params, moves))
        ratios = (weights / lengths).where((weights > 0) & (lengths > 0), 1.0)
        return list(ratios if self.max_trust is None else ratios.clamp_(max=self.max_trust))


def lamb(
    schedule: Schedule | float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-6,
    weight_decay: float | Schedule = 0.01,
    *,
    max_trust: float | None = None,
    no_decay: tuple[str, ...] | None = None,
    lr_scales: Mapping[str, float] | None = None,
    wake: Mapping[str, int] | None = None,
) -> LAMB:
    """LAMB with a schedule or a constant rate.

    See `adamw` for `no_decay`, here also without trust, `lr_scales` and `wake`.
    """
    return LAMB(schedule, weight_decay, no_decay, lr_scales, wake, betas, eps, max_trust)
