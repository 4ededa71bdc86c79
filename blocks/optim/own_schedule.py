"""A schedule of one's own: any function of the step."""

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import attrs
import torch
from torch import Tensor


def number_or_schedule(value: Any) -> Any:
    """A number or a schedule that tells its `ends` as it is, any other function of the step as an `OwnSchedule`."""
    return OwnSchedule(value) if callable(value) and not hasattr(value, "ends") else value


@attrs.frozen
class OwnSchedule:
    """What a function gives at a step, a number or a 0-dim tensor, as a schedule.

    Raises ValueError, when it is made, for a function that cannot be called with a step, or gives no finite number at
    step 0. One that asks for the step's number (`math.cos(step)`, `if step < 9`) makes a GPU wait in every step.
    """

    function: Callable[[Any], Any]
    first: float = attrs.field(init=False, repr=False, eq=False)  # at step 0

    @first.default
    def _at_0(self) -> float:
        try:
            value = self.function(torch.zeros((), dtype=torch.int64))
        except TypeError as error:
            raise ValueError(f"the schedule {self.function!r} cannot be called with a step alone: {error}") from error
        if isinstance(value, Tensor) and value.ndim:
            raise ValueError(
                f"the schedule {self.function!r} gives a tensor {list(value.shape)} at step 0; one number is wanted, a "
                "float or a tensor []"
            )
        if not isinstance(value, (Real, Tensor)) or not math.isfinite(value):
            raise ValueError(f"the schedule {self.function!r} gives {value!r} at step 0; a finite number is wanted")
        return float(value)

    @property
    def ends(self) -> tuple[float, ...]:
        """All that is known: where it begins."""
        return (self.first,)

    def __call__(self, step: int | Tensor) -> Tensor:
        """The value at a step, int or 0-dim tensor: float64 []."""
        step = torch.as_tensor(step)
        value = self.function(step)
        if isinstance(value, Tensor):
            return value.to(step.device, torch.float64)
        return torch.full((), value, dtype=torch.float64, device=step.device)
