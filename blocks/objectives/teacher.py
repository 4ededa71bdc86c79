"""The teacher: a slow copy of the params, which an objective keeps in its memory."""

import attrs
from torch import Tensor

from blocks.block import Params
from blocks.checks import is_within
from blocks.notes import Memory
from blocks.optim.ema import ema_update_
from blocks.optim.schedule import Schedule, ends


def is_momentum(instance: object, field: attrs.Attribute, value: float) -> None:
    """attrs validator of what an average keeps of itself in a step, a number."""
    if callable(value):
        raise ValueError(f"{field.name} {value!r} is a schedule, and it has none; use a number in [0, 1]")
    is_momentum_or_schedule(instance, field, value)


def is_momentum_or_schedule(_: object, field: attrs.Attribute, value: float | Schedule) -> None:
    """attrs validator of what an average keeps of itself in a step, a number or a schedule."""
    for end in ends(value):
        if not is_within(end, 0, 1):
            whole = "" if end is value else f" of {value}"
            raise ValueError(
                f"{field.name} {end!r}{whole} is not in [0, 1]: what the average keeps of itself in a step"
            )


def follow_(memory: Memory, params: Params, momentum: float | Schedule, skip: Tensor | None) -> dict[str, Tensor]:
    """teacher <- momentum teacher + (1 - momentum) params, in place, unless skip; {"teacher_momentum"} if scheduled.

    The teacher may be a part of the params. After an update it is what MoCo's own order, moving it before keys are
    made, has in the next step.
    """
    now = at(momentum, memory["step"])
    student = {name: params[name] for name in memory["teacher"]}
    ema_update_(memory["teacher"], student, now, skip=skip)
    return scheduled(teacher_momentum=now)


def at(value: float | Schedule, step: Tensor) -> float | Tensor:
    """The value at a step: a number, or what the schedule says."""
    return value(step) if callable(value) else value


def scheduled(**values: float | Tensor) -> dict[str, Tensor]:
    """Those values that are tensors, as metrics."""
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}
