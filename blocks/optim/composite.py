"""Schedules made of schedules: one after another, or in steps of an epoch."""

from collections.abc import Sequence
from itertools import accumulate

import attrs
import torch
from torch import Tensor

from blocks.optim.own_schedule import number_or_schedule
from blocks.optim.schedule import Schedule, ends, progress

CLOSE = 1e-6  # of a whole run: where rounding hides that a stage has begun, it has


@attrs.frozen
class Composite:
    """One schedule after another; `edges` are the steps, fractions allowed, where each begins."""

    schedules: tuple[Schedule, ...]
    edges: tuple[float, ...]
    total_steps: int
    scaling: tuple[str, ...]

    @property
    def ends(self) -> tuple[float, ...]:
        return tuple(end for schedule in self.schedules for end in ends(schedule))

    def __call__(self, step: int | Tensor) -> Tensor:
        """The value at a step, int or 0-dim tensor: float64 []."""
        step = torch.as_tensor(step).double()
        value = self._stage(0, step)
        for i, edge in enumerate(self.edges[1:], 1):
            value = torch.where(step + CLOSE * self.total_steps > edge, self._stage(i, step), value)
        return value

    def _stage(self, i: int, step: Tensor) -> Tensor:
        if self.scaling[i] == "fixed":
            return self.schedules[i](step)
        end = (*self.edges, self.total_steps)[i + 1]
        return self.schedules[i](progress(step, self.edges[i], end).mul_(self.total_steps))


@attrs.frozen
class PerEpoch:
    """A schedule's value at the first step of the epoch, throughout the epoch."""

    schedule: Schedule
    steps_per_epoch: int

    @property
    def ends(self) -> tuple[float, ...]:
        return ends(self.schedule)

    def __call__(self, step: int | Tensor) -> Tensor:
        """The value at a step, int or 0-dim tensor: float64 []."""
        epoch = torch.as_tensor(step).double().div(self.steps_per_epoch).floor_()
        return self.schedule(epoch.mul_(self.steps_per_epoch))


def composite(
    schedules: Sequence[Schedule], lengths: Sequence[float], total_steps: int, scaling: Sequence[str] | None = None
) -> Composite:
    """Schedules one after another, each over its share of the run, `lengths`, which add up to 1.

    Every schedule is written as if for the whole run of `total_steps`. "rescaled" squeezes it into its stage, so that
    it starts and ends with the stage; "fixed" shows it the step of the run, so that it is cut out and the value may
    jump where the stage begins. None rescales all. Warm-up and cosine as VISSL's recipes have them:

        composite([linear(1e-6, peak, steps), cosine(peak, 0, steps)], [0.05, 0.95], steps, ["rescaled", "fixed"])
    """
    scaling = ["rescaled"] * len(schedules) if scaling is None else scaling
    if not schedules or not len(schedules) == len(lengths) == len(scaling):
        raise ValueError(f"{len(schedules)} schedules, {len(lengths)} lengths, {len(scaling)} scalings: give as many")
    if not (abs(sum(lengths) - 1) <= 1e-3 and min(lengths) > 0):
        raise ValueError(f"lengths {list(lengths)} are not shares of a run; they must be above 0 and add up to 1")
    if unknown := [name for name in scaling if name not in ("rescaled", "fixed")]:
        raise ValueError(f"scaling {unknown[0]!r} is unknown; there are 'rescaled' and 'fixed'")
    if total_steps < 1:
        raise ValueError(f"total_steps {total_steps} is not a number of steps; use 1 or more")
    edges = tuple(share * total_steps for share in accumulate((0.0, *lengths[:-1])))
    return Composite(tuple(map(number_or_schedule, schedules)), edges, total_steps, tuple(scaling))


def per_epoch(schedule: Schedule, steps_per_epoch: int) -> PerEpoch:
    """A schedule that moves at the start of an epoch only."""
    if steps_per_epoch < 1:
        raise ValueError(f"steps_per_epoch {steps_per_epoch} is not a number of steps; use 1 or more")
    return PerEpoch(number_or_schedule(schedule), steps_per_epoch)
