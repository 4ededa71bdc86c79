"""Groups of params that are updated alike, and what all optimizers that know groups share."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

import attrs
import torch
from torch import Tensor

from blocks import tree
from blocks.optim.knobs import is_from_0
from blocks.optim.names import matching, names_and_ranks, no_decay_names
from blocks.optim.optimizer import Optimizer
from blocks.optim.own_schedule import number_or_schedule
from blocks.optim.schedule import Schedule, constant, ends
from blocks.optim.waking import Wakes, as_wakes, asleep, number_of
from blocks.tree import Tree

Value = TypeVar("Value")
Scales = tuple[tuple[str, float], ...]  # (name pattern, factor on the rate)


@attrs.frozen
class Group:
    """The places, in the params' order, of leaves with one rate and one decay; `apart` from the rest if so asked.

    They sleep through the first `wake` updates.
    """

    places: tuple[int, ...]
    lr_scale: float
    decays: bool
    apart: bool
    wake: int


@attrs.frozen(eq=False)
class Part:
    """A group's share of an update: lists of leaves side by side, `slots` those of the state."""

    group: Group
    lr: Tensor
    weight_decay: float | Tensor
    params: list[Tensor]
    grads: list[Tensor]
    slots: list[list[Tensor]]


def as_schedule(value: Schedule | float) -> Schedule:
    """A number is a constant schedule. Raises ValueError for a negative one, and one that goes below 0."""
    value = number_or_schedule(value)
    if not all(is_from_0(end) for end in ends(value)):
        raise ValueError(f"the rate {value!r} must not be negative; use a number from 0 on, or a function of the step")
    return value if callable(value) else constant(float(value))


def as_scales(scales: Mapping[str, float] | Scales | None) -> Scales:
    """{name pattern: factor} as a tuple, that it may be hashed. Raises ValueError for a negative factor."""
    pairs = tuple(scales.items()) if isinstance(scales, Mapping) else scales or ()
    for pattern, factor in pairs:
        if not is_from_0(factor):
            raise ValueError(f"lr_scales has {pattern!r}: {factor!r}, which must not be negative")
    return tuple((pattern, float(factor)) for pattern, factor in pairs)


def as_patterns(patterns: Sequence[str] | None) -> tuple[str, ...] | None:
    """Name patterns as a tuple. Raises ValueError for a bare string, which would be taken letter by letter."""
    if isinstance(patterns, str):
        raise ValueError(f"{patterns!r} is one string; give a tuple of name patterns, ({patterns!r},)")
    return None if patterns is None else tuple(patterns)


def is_decay(_: object, field: attrs.Attribute, value: Schedule | float) -> None:
    """Validates a weight decay, a number or a schedule."""
    if not all(is_from_0(end) for end in ends(value)):
        raise ValueError(
            f"{field.name} {value!r} must not be negative; use a number from 0 on, or a function of the step"
        )


@attrs.frozen
class Grouped(Optimizer):
    """An optimizer whose rate and decay depend on a parameter's name.

    Its state: {slot: {dotted name: tensor} for each of its slots, "count": int64 [] updates applied}.
    """

    schedule: Schedule = attrs.field(converter=as_schedule)
    weight_decay: float | Schedule = attrs.field(converter=number_or_schedule, validator=is_decay)
    no_decay: tuple[str, ...] | None = attrs.field(converter=as_patterns)
    lr_scales: Scales = attrs.field(converter=as_scales)
    wake: Wakes = attrs.field(converter=as_wakes)

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of what the state holds for a parameter."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its state holds")

    def init(self, params: Tree) -> Tree:
        """Slots of zeros. Raises ValueError for params that no kernel can take, and for patterns without match."""
        flat = tree.flatten(params)
        for name, tensor in flat.items():
            if not (tensor.is_floating_point() and tensor.is_contiguous()):
                raise ValueError(f"{name} {tensor.dtype} {list(tensor.shape)} must be floating-point and contiguous")
        self.groups(flat)
        count = torch.zeros((), dtype=torch.int64, device=next((t.device for t in flat.values()), None))
        slots = {slot: {name: torch.zeros_like(flat[name]) for name in self.held(slot, flat)} for slot in self.slots}
        return {**slots, "count": count}

    def held(self, slot: str, flat: dict[str, Tensor]) -> Iterable[str]:
        """The names of the params that have this slot: all."""
        return flat

    @torch.no_grad()
    def update_(self, params: Tree, grads: Tree, state: Tree, *, skip: Tensor | None = None) -> dict[str, Tensor]:
        """One update in place; returns {"lr": float64 []}, the rate of this update, and "weight_decay" if scheduled.

        "lr" is the rate before the factors of `lr_scales`. Leaves that `wake` later take no part until then, and
        count their updates from there.
        """
        count = state["count"]
        lr, decay = self.schedule(count), self.decay_at(count)
        rate = lr if lr.device.type == "cpu" else lr.float()  # what each device's kernels want
        for wake, parts in by_wake(self.parts(params, grads, state, rate, decay)).items():
            self.step_(iter(parts), number_of(count, wake), asleep(skip, count, wake))
        count.add_(1 if skip is None else ~skip)
        return {"lr": lr, "weight_decay": decay} if isinstance(decay, Tensor) else {"lr": lr}

    def step_(self, parts: Iterator[Part], number: Tensor, skip: Tensor | None) -> None:
        """Update every part in place, for the `number`th time (int64 [], from 1 on); nothing where skip is true."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it updates")

    def groups(self, flat: dict[str, Tensor]) -> tuple[Group, ...]:
        """The groups of these leaves."""
        return groups_of(*names_and_ranks(flat), self.no_decay, self.lr_scales, self.wake)

    def decay_at(self, count: Tensor) -> float | Tensor:
        """The weight decay of this update, a tensor when it is scheduled."""
        return self.weight_decay(count) if callable(self.weight_decay) else self.weight_decay

    def parts(self, params: Tree, grads: Tree, state: Tree, lr: Tensor, decay: float | Tensor) -> Iterator[Part]:
        """The update group by group, each with its rate and decay."""
        flat = tree.flatten(params)
        columns = [list(flat.values()), tree.leaves(grads), *[list(map(state[s].get, flat)) for s in self.slots]]
        for group in self.groups(flat):
            rate = lr if group.lr_scale == 1 else lr * group.lr_scale
            mine, theirs, *slots = [[column[place] for place in group.places] for column in columns]
            yield Part(group, rate, decay if group.decays else 0.0, mine, theirs, slots)

    def describe(self, params: Tree) -> dict[str, str]:
        """{"blocks.0.attn.qkv.weight": "weight decay 0.05, rate x 0.1", "norm.bias": "no weight decay", ...}."""
        flat = tree.flatten(params)
        names, words = list(flat), {}
        for group in self.groups(flat):
            words.update({names[place]: self.words(group) for place in group.places})
        return {name: words[name] for name in names}

    def words(self, group: Group) -> str:
        """What is done to the leaves of a group."""
        number = " by schedule" if callable(self.weight_decay) else f" {self.weight_decay:g}"
        decay = f"weight decay{number}" if group.decays else "no weight decay"
        rate = "" if group.lr_scale == 1 else f", rate x {group.lr_scale:g}"
        return decay + rate + (f", asleep for {group.wake} updates" if group.wake else "")


def by_wake(parts: Iterator[Part]) -> dict[int, list[Part]]:
    """The parts that wake at the same update."""
    found: dict[int, list[Part]] = {}
    for part in parts:
        found.setdefault(part.group.wake, []).append(part)
    return found


@lru_cache(maxsize=64)
def groups_of(
    names: tuple[str, ...],
    ranks: tuple[int, ...],
    no_decay: tuple[str, ...] | None,
    lr_scales: Scales,
    wake: Wakes,
    apart: frozenset[str] = frozenset(),
) -> tuple[Group, ...]:
    """The groups of leaves with these names and numbers of axes; the `apart` by themselves."""
    exempt = no_decay_names(names, ranks, no_decay)
    scales, wakes = by_name(names, lr_scales, "lr_scales"), by_name(names, wake, "wake")
    places: dict[tuple[bool, float, bool, int], list[int]] = {}
    for place, name in enumerate(names):
        kind = name in exempt, scales.get(name, 1.0), name in apart, wakes.get(name, 0)
        places.setdefault(kind, []).append(place)
    return tuple(Group(tuple(p), scale, not free, away, at) for (free, scale, away, at), p in places.items())


def by_name(names: tuple[str, ...], pairs: tuple[tuple[str, Value], ...], knob: str) -> dict[str, Value]:
    """Values by name. Raises ValueError for a pattern without match, and for a name that two patterns match."""
    found: dict[str, tuple[str, Value]] = {}
    known = frozenset(names)
    for pattern, value in pairs:
        for name in (pattern,) if pattern in known else matching(names, (pattern,)):
            if name in found:
                raise ValueError(
                    f"{name} matches two of {knob}, {found[name][0]!r} and {pattern!r}; at most one may match a name"
                )
            found[name] = pattern, value
    return {name: value for name, (_, value) in found.items()}
