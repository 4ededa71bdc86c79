"""Learning-rate schedules: functions of the number of the update."""

import math

import attrs
import torch
from torch import Tensor


@attrs.frozen
class Constant:
    """The same value at every step."""

    value: float

    def __call__(self, step: int | Tensor) -> Tensor:
        """The value: float64 []."""
        device = step.device if isinstance(step, Tensor) else None
        return torch.full((), self.value, dtype=torch.float64, device=device)


@attrs.frozen
class WarmupCosine:
    """Linear from `start` at step 0 to `peak` at `warmup_steps`, then half a cosine to `end` at `total_steps`."""

    peak: float
    warmup_steps: int
    total_steps: int
    start: float
    end: float

    def __call__(self, step: int | Tensor) -> Tensor:
        """The value at a step, int or 0-dim tensor: float64 []."""
        step = torch.as_tensor(step).double()
        decay_steps = max(self.total_steps - self.warmup_steps, 1)
        progress = ((step - self.warmup_steps) / decay_steps).clamp_(0.0, 1.0)
        cosine = (progress * math.pi).cos_().add_(1.0).mul_(0.5 * (self.peak - self.end)).add_(self.end)
        if not self.warmup_steps:
            return cosine
        linear = self.start + step * ((self.peak - self.start) / self.warmup_steps)
        return torch.where(step < self.warmup_steps, linear, cosine)


def constant(value: float) -> Constant:
    """A schedule with one value."""
    return Constant(value)


def warmup_cosine(
    peak: float, warmup_steps: int, total_steps: int, *, start: float = 0.0, end: float = 0.0
) -> WarmupCosine:
    """Linear warm-up and cosine decay, per step: SGDR (Loshchilov and Hutter 2017), equation 5, without restarts.

    Raises ValueError where the warm-up is longer than the whole.
    """
    if not 0 <= warmup_steps <= total_steps:
        raise ValueError(
            f"warmup_steps {warmup_steps} does not lie between 0 and total_steps {total_steps}; "
            "warm up for less, or train longer"
        )
    return WarmupCosine(peak, warmup_steps, total_steps, start, end)


def scaled_lr(lr: float, batch_size: int, per: int, rule: str = "linear") -> float:
    """The learning rate for a global batch, given that for `per` images: times batch_size / per, or its square root.

    "linear": Goyal et al. 2017, section 2.1. "sqrt": Krizhevsky 2014, section 5; usual for LARS.
    """
    ratio = batch_size / per
    if rule not in ("linear", "sqrt"):
        raise ValueError(f"rule {rule!r} is unknown; there are 'linear' and 'sqrt'")
    return lr * (ratio if rule == "linear" else math.sqrt(ratio))
