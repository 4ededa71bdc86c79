"""Schedules of the learning rate, the weight decay or a momentum: functions of the number of the update."""

import math
from typing import Any, Protocol

import attrs
import torch
from torch import Tensor


class Schedule(Protocol):
    """A value for every step: int or 0-dim tensor -> float64 []."""

    def __call__(self, step: int | Tensor) -> Tensor: ...


def ends(value: "float | Schedule") -> tuple[Any, ...]:
    """Between which numbers it runs, for checks: a number alone; of a schedule its `ends`, () where it has none."""
    return getattr(value, "ends", ()) if callable(value) else (value,)


@attrs.frozen
class Constant:
    """The same value at every step."""

    value: float

    @property
    def ends(self) -> tuple[float, ...]:
        return (self.value,)

    def __call__(self, step: int | Tensor) -> Tensor:
        """The value: float64 []."""
        device = step.device if isinstance(step, Tensor) else None
        return torch.full((), self.value, dtype=torch.float64, device=device)


@attrs.frozen
class Linear:
    """Straight from `start` at step 0 to `end` at `total_steps`, then `end`."""

    start: float
    end: float
    total_steps: int

    @property
    def ends(self) -> tuple[float, ...]:
        return self.start, self.end

    def __call__(self, step: int | Tensor) -> Tensor:
        """The value at a step, int or 0-dim tensor: float64 []."""
        return progress(step, 0, self.total_steps).mul_(self.end - self.start).add_(self.start)


@attrs.frozen
class Cosine:
    """Half a cosine from `start` at step 0 to `end` at `total_steps`, then `end`."""

    start: float
    end: float
    total_steps: int

    @property
    def ends(self) -> tuple[float, ...]:
        return self.start, self.end

    def __call__(self, step: int | Tensor) -> Tensor:
        """The value at a step, int or 0-dim tensor: float64 []."""
        return _half_cosine(progress(step, 0, self.total_steps), self.start, self.end)


@attrs.frozen
class WarmupCosine:
    """Linear from `start` at step 0 to `peak` at `warmup_steps`, then half a cosine to `end` at `total_steps`."""

    peak: float
    warmup_steps: int
    total_steps: int
    start: float
    end: float

    @property
    def ends(self) -> tuple[float, ...]:
        return self.start, self.peak, self.end

    def __call__(self, step: int | Tensor) -> Tensor:
        """The value at a step, int or 0-dim tensor: float64 []."""
        step = torch.as_tensor(step).double()
        cosine = _half_cosine(progress(step, self.warmup_steps, self.total_steps), self.peak, self.end)
        return _warmed(cosine, step, self.start, self.peak, self.warmup_steps)


@attrs.frozen
class StepEvery:
    """`value`, times `gamma` after every `every` steps."""

    value: float
    gamma: float
    every: int

    @property
    def ends(self) -> tuple[float, ...]:
        return self.value, 0.0 if self.gamma < 1 else self.value if self.gamma == 1 else math.inf

    def __call__(self, step: int | Tensor) -> Tensor:
        """The value at a step, int or 0-dim tensor: float64 []."""
        return self.value * self.gamma ** torch.as_tensor(step).double().div(self.every).floor_()


@attrs.frozen
class StepAt:
    """`value`, times `gamma` from each milestone on."""

    value: float
    gamma: float
    milestones: tuple[int, ...]

    @property
    def ends(self) -> tuple[float, ...]:
        return self.value, self.value * self.gamma ** len(self.milestones)

    def __call__(self, step: int | Tensor) -> Tensor:
        """The value at a step, int or 0-dim tensor: float64 []."""
        step = torch.as_tensor(step).double()
        passed = torch.stack([step >= milestone for milestone in self.milestones]).sum()
        return self.value * self.gamma ** passed.double()


@attrs.frozen
class InverseSqrt:
    """Linear from `start` at step 0 to `peak` at `warmup_steps`, then peak * sqrt(warmup_steps / step)."""

    peak: float
    warmup_steps: int
    start: float

    @property
    def ends(self) -> tuple[float, ...]:
        return self.start, self.peak, 0.0

    def __call__(self, step: int | Tensor) -> Tensor:
        """The value at a step, int or 0-dim tensor: float64 []."""
        step = torch.as_tensor(step).double()
        root = (self.warmup_steps / step.clamp(min=self.warmup_steps)).sqrt_().mul_(self.peak)
        return _warmed(root, step, self.start, self.peak, self.warmup_steps)


def constant(value: float) -> Constant:
    """A schedule with one value."""
    return Constant(value)


def linear(start: float, end: float, total_steps: int) -> Linear:
    """A straight line over the whole run."""
    return Linear(start, end, _positive(total_steps, "total_steps"))


def cosine(start: float, end: float, total_steps: int) -> Cosine:
    """Half a cosine over the whole run: SGDR (Loshchilov and Hutter 2017), equation 5, without restarts."""
    return Cosine(start, end, _positive(total_steps, "total_steps"))


def warmup_cosine(
    peak: float, warmup_steps: int, total_steps: int, *, start: float = 0.0, end: float = 0.0
) -> WarmupCosine:
    """Linear warm-up and cosine decay, per step: SGDR (Loshchilov and Hutter 2017), equation 5, without restarts.

    Raises ValueError where the warm-up is longer than the whole, and for a start or an end below 0 or above the peak.
    """
    if not (peak >= 0 and start >= 0 and end >= 0):
        raise ValueError(f"the rates peak {peak:g}, start {start:g} and end {end:g} must not be negative")
    if max(start, end) > peak:
        name, rate = ("start", start) if start > peak else ("end", end)
        raise ValueError(
            f"{name} {rate:g} is above peak {peak:g}; use at most the peak, which may have shrunk with the batch "
            "(in a recipe --lr, --batch-size, --min-lr)"
        )
    if not 0 <= warmup_steps <= total_steps:
        raise ValueError(
            f"warmup_steps {warmup_steps} does not lie between 0 and total_steps {total_steps}; "
            "warm up for less, or train longer (in a recipe --warmup-epochs, --epochs)"
        )
    return WarmupCosine(peak, warmup_steps, total_steps, start, end)


def step_decay(
    value: float, gamma: float = 0.1, *, every: int | None = None, milestones: tuple[int, ...] | None = None
) -> StepEvery | StepAt:
    """`value` times `gamma` after every `every` steps, or from each of the milestones on: one of the two is given."""
    if (every is None) == (milestones is None):
        raise ValueError(f"every {every} and milestones {milestones}: give one of the two")
    if not gamma >= 0:
        raise ValueError(f"gamma {gamma} must not be negative: it would turn the sign; 0.1 is the usual one")
    if every is not None:
        return StepEvery(value, gamma, _positive(every, "every"))
    points = tuple(milestones or ())
    if not points or list(points) != sorted(set(points)) or points[0] < 1:
        raise ValueError(f"milestones {points} are not growing steps from 1 on")
    return StepAt(value, gamma, points)


def inverse_sqrt(peak: float, warmup_steps: int, *, start: float = 0.0) -> InverseSqrt:
    """Linear warm-up, then decay with the root of the step: Vaswani et al. 2017, equation 3, by its peak."""
    return InverseSqrt(peak, _positive(warmup_steps, "warmup_steps"), start)


def scaled_lr(lr: float, batch_size: int, per: int, rule: str = "linear") -> float:
    """The learning rate for a global batch, given that for `per` images: times batch_size / per, or its square root.

    "linear": Goyal et al. 2017, section 2.1. "sqrt": Krizhevsky 2014, section 5; usual for LAMB.
    """
    if not (lr >= 0 and batch_size > 0 and per > 0):
        raise ValueError(
            f"lr {lr}, batch_size {batch_size} and per {per}: use a rate from 0 on, and images from 1 on (--lr, "
            "--batch-size)"
        )
    ratio = batch_size / per
    if rule not in ("linear", "sqrt"):
        raise ValueError(f"rule {rule!r} is unknown; there are 'linear' and 'sqrt'")
    return lr * (ratio if rule == "linear" else math.sqrt(ratio))


def progress(step: int | Tensor, begin: float, end: float) -> Tensor:
    """How much of the way from begin to end is done, 0 to 1: a new float64 []."""
    return ((torch.as_tensor(step).double() - begin) / ((end - begin) or 1)).clamp_(0.0, 1.0)


def _half_cosine(done: Tensor, start: float, end: float) -> Tensor:
    return (done * math.pi).cos_().add_(1.0).mul_(0.5 * (start - end)).add_(end)


def _warmed(value: Tensor, step: Tensor, start: float, peak: float, warmup_steps: int) -> Tensor:
    """The value, but linear from start at step 0 to peak at warmup_steps."""
    if not warmup_steps:
        return value
    return torch.where(step < warmup_steps, start + step * ((peak - start) / warmup_steps), value)


def _positive(number: int, name: str) -> int:
    if not number >= 1:
        raise ValueError(f"{name} {number} is not a number of steps; use 1 or more (in epochs, one or more)")
    return number
