"""LARS: momentum with a rate for each layer (You, Gitman and Ginsburg 2017)."""

from collections.abc import Iterator, Mapping

import attrs
import torch
from torch import Tensor

from blocks.checks import above_0, not_negative
from blocks.optim.groups import Grouped, Part
from blocks.optim.knobs import is_share
from blocks.optim.lists import add_scaled_, scale_
from blocks.optim.schedule import Schedule
from blocks.optim.sgd import decayed
from blocks.optim.skipping import keeping, unless, zero_where


@attrs.frozen
class LARS(Grouped):
    """State {"momentum_buffer": {dotted name: tensor}, "count": int64 []}.

    A layer's gradient, its decay included, is multiplied by trust * |w| / (|g| + weight_decay * |w| + eps); leaves
    that do not decay are left out of this, as is usual. The rate multiplies the buffer, as in torch.optim.SGD.
    """

    momentum: float = attrs.field(validator=is_share)
    nesterov: bool
    trust: float = attrs.field(validator=above_0)
    eps: float = attrs.field(validator=not_negative)

    @property
    def slots(self) -> tuple[str, ...]:
        return ("momentum_buffer",)

    def step_(self, parts: Iterator[Part], number: Tensor, skip: Tensor | None) -> None:
        """buffer <- momentum * buffer + adapted gradient, params <- params - lr * buffer."""
        for part in parts:
            moves, (buffers,) = zero_where(skip, self.adapted(part)), part.slots
            scale_(buffers, keeping(skip, self.momentum))
            torch._foreach_add_(buffers, moves)
            ahead = torch._foreach_add(moves, buffers, alpha=self.momentum) if self.nesterov else buffers
            add_scaled_(part.params, ahead, -unless(skip, part.lr))

    def adapted(self, part: Part) -> list[Tensor]:
        """New gradients with weight decay, each layer's as long as the trust coefficient wants it."""
        moves = decayed(part)
        if part.group.decays:
            weights, slopes = (torch.stack(torch._foreach_norm(t)) for t in (part.params, part.grads))
            ratios = self.trust * weights / (slopes + part.weight_decay * weights + self.eps)
            torch._foreach_mul_(moves, list(ratios.where((weights > 0) & (slopes > 0), 1.0)))
        return moves


def lars(
    schedule: Schedule | float,
    momentum: float = 0.9,
    weight_decay: float | Schedule = 1e-6,
    *,
    nesterov: bool = False,
    trust: float = 0.001,
    eps: float = 1e-8,
    no_decay: tuple[str, ...] | None = None,
    lr_scales: Mapping[str, float] | None = None,
    wake: Mapping[str, int] | None = None,
) -> LARS:
    """LARS with a schedule or a constant rate.

    See `adamw` for `no_decay`, here also without trust, `lr_scales` and `wake`.
    """
    return LARS(schedule, weight_decay, no_decay, lr_scales, wake, momentum, nesterov, trust, eps)
