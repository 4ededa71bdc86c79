"""Gradient descent with momentum (Sutskever et al. 2013), by torch's fused kernel."""

from collections.abc import Iterator, Mapping

import attrs
import torch
from torch import Tensor

from blocks.ops.fused import fused_sgd_
from blocks.optim.groups import Grouped, Part
from blocks.optim.knobs import is_share
from blocks.optim.lists import add_scaled_, scale_, scaled
from blocks.optim.schedule import Schedule
from blocks.optim.skipping import keeping, unless, zero_where


@attrs.frozen
class SGD(Grouped):
    """State {"momentum_buffer": {dotted name: tensor} if there is momentum, "count": int64 []}.

    Bit-equal to torch.optim.SGD(fused=True) without dampening, and to rounding with it; weight decay is added to the
    gradient, as there.
    """

    momentum: float = attrs.field(validator=is_share)
    dampening: float = attrs.field(validator=is_share)
    nesterov: bool

    @property
    def slots(self) -> tuple[str, ...]:
        return ("momentum_buffer",) if self.momentum else ()

    def step_(self, parts: Iterator[Part], number: Tensor, skip: Tensor | None) -> None:
        """See `fused_` and `dampened_`."""
        found_inf = None if skip is None else skip.float()
        for part in parts:
            if self.dampening:
                self.dampened_(part, number, skip)
            else:
                self.fused_(part, found_inf)

    def fused_(self, part: Part, found_inf: Tensor | None) -> None:
        """buffer <- momentum * buffer + grad, params <- params - lr * buffer. A zero buffer is as good as none."""
        grads, weight_decay = part.grads, part.weight_decay
        if isinstance(weight_decay, Tensor):  # the kernel takes numbers only
            grads, weight_decay = decayed(part), 0.0
        buffers = part.slots[0] if part.slots else []
        fused_sgd_(part.params, grads, buffers, part.lr, self.momentum, weight_decay, self.nesterov, found_inf)

    def dampened_(self, part: Part, number: Tensor, skip: Tensor | None) -> None:
        """buffer <- momentum * buffer + (1 - dampening) * grad; the first gradient is not dampened."""
        grads, (buffers,) = zero_where(skip, decayed(part)), part.slots
        scale_(buffers, keeping(skip, self.momentum))
        add_scaled_(buffers, grads, 1.0 - self.dampening * (number > 1).double())
        add_scaled_(part.params, buffers, -unless(skip, part.lr))


def decayed(part: Part) -> list[Tensor]:
    """New gradients with the weight decay's: grad + weight_decay * param."""
    if isinstance(part.weight_decay, Tensor):
        return list(torch._foreach_add(part.grads, scaled(part.params, part.weight_decay)))
    return list(torch._foreach_add(part.grads, part.params, alpha=part.weight_decay))


def sgd(
    schedule: Schedule | float,
    momentum: float = 0.9,
    weight_decay: float | Schedule = 0.0,
    *,
    dampening: float = 0.0,
    nesterov: bool = False,
    no_decay: tuple[str, ...] | None = None,
    lr_scales: Mapping[str, float] | None = None,
    wake: Mapping[str, int] | None = None,
) -> SGD:
    """Gradient descent with a schedule or a constant rate; see `adamw` for `no_decay`, `lr_scales` and `wake`."""
    if nesterov and (not momentum or dampening):
        raise ValueError(f"nesterov wants momentum and no dampening, not momentum {momentum}, dampening {dampening}")
    if dampening and not momentum:
        raise ValueError(f"dampening {dampening} does nothing without momentum; set momentum, or dampening 0")
    return SGD(schedule, weight_decay, no_decay, lr_scales, wake, momentum, dampening, nesterov)
