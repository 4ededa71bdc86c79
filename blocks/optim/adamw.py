"""AdamW (Loshchilov and Hutter 2019) with its state as a tree, by torch's fused kernel."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import attrs
import torch
from torch import Tensor

from blocks.checks import not_negative
from blocks.ops.adamw_ema import Leaves, Rates, adamw_ema_, adamw_ema_plain_, unsupported
from blocks.ops.choose import Impl, choose
from blocks.ops.fused import fused_adamw_
from blocks.optim.groups import Group, Grouped, Part
from blocks.optim.knobs import are_betas
from blocks.optim.lists import decay_
from blocks.optim.schedule import Schedule
from blocks.optim.skipping import unless
from blocks.tree import Tree, flatten
from blocks.tree import leaves as leaves_of


@attrs.frozen
class AdamW(Grouped):
    """State {"exp_avg": {dotted name: tensor}, "exp_avg_sq": likewise, "count": int64 []}.

    Bit-equal to torch.optim.AdamW(fused=True) with a number for weight decay; a scheduled one is applied beforehand.
    On a GPU `update_all_` is one kernel, and equal to it but for rounding.
    """

    betas: tuple[float, float] = attrs.field(validator=are_betas)
    eps: float = attrs.field(validator=not_negative)
    impl: Impl = "auto"

    @property
    def slots(self) -> tuple[str, ...]:
        return "exp_avg", "exp_avg_sq"

    def step_(self, parts: Iterator[Part], number: Tensor, skip: Tensor | None) -> None:
        """See `fused_`."""
        step, found_inf = number.float(), None if skip is None else skip.float()
        for part in parts:
            fused_(part, part.slots[0], part.slots[1], step, self.betas, self.eps, skip, found_inf)

    @torch.no_grad()
    def update_all_(self, params: Tree, grads: Tree, state: Tree, **how: Any) -> dict[str, Tensor]:
        """See `Optimizer.update_all_`."""
        if choose(self.impl, state["count"]) == "torch":  # it is where the leaves are
            return super().update_all_(params, grads, state, **how)
        return self.in_one_pass_(params, grads, state, **how)

    def in_one_pass_(
        self,
        params: Tree,
        grads: Tree,
        state: Tree,
        *,
        skip: Tensor | None = None,
        factor: Tensor | None = None,
        average: Tree | None = None,
        ema_decay: float | Tensor = 0.0,
    ) -> dict[str, Tensor]:
        """`update_all_` by `adamw_ema_`; where that does not take the leaves, by the parts one after another."""
        flat, count = flatten(params), state["count"]
        averages = [] if average is None else leaves_of(average)
        means, squares = ([state[slot][name] for name in flat] for slot in self.slots)
        lr_scales, decays, wakes = by_leaf(self.groups(flat))
        own = list(flat.values()), leaves_of(grads), means, squares
        leaves = Leaves(*own, lr_scales, decays, wakes, averages)
        which = choose(self.impl, count, unsupported(leaves))
        if which == "torch":
            return super().update_all_(
                params, grads, state, skip=skip, factor=factor, average=average, ema_decay=ema_decay
            )
        lr, decay = self.schedule(count), self.decay_at(count)
        update_ = adamw_ema_ if which == "triton" else adamw_ema_plain_
        update_(leaves, Rates(lr, count, self.betas, self.eps, decay, skip, factor, ema_decay))
        count.add_(1 if skip is None else ~skip)
        return {"lr": lr, "weight_decay": decay} if isinstance(decay, Tensor) else {"lr": lr}


@lru_cache(maxsize=64)
def by_leaf(groups: tuple[Group, ...]) -> tuple[list[float], list[bool], list[int]]:
    """(the factor on the rate, whether it decays, when it wakes) of each leaf, from the groups of all."""
    found = sorted((place, g.lr_scale, g.decays, g.wake) for g in groups for place in g.places)
    return [f[1] for f in found], [f[2] for f in found], [f[3] for f in found]


def fused_(
    part: Part,
    means: list[Tensor],
    squares: list[Tensor],
    step: Tensor,
    betas: tuple[float, float],
    eps: float,
    skip: Tensor | None,
    found_inf: Tensor | None,
) -> None:
    """Adam's update, decoupled decay included, by torch's kernel; nothing where skip is true and found_inf 1."""
    weight_decay = part.weight_decay
    if isinstance(weight_decay, Tensor):  # the kernel takes numbers only, and to ask for one would wait for the device
        decay_(part.params, unless(skip, part.lr), weight_decay)
        weight_decay = 0.0
    fused_adamw_(part.params, part.grads, means, squares, step, part.lr, betas, eps, weight_decay, found_inf)


def adamw(
    schedule: Schedule | float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float | Schedule = 0.05,
    no_decay: tuple[str, ...] | None = None,
    lr_scales: Mapping[str, float] | None = None,
    *,
    wake: Mapping[str, int] | None = None,
    impl: Impl = "auto",
) -> AdamW:
    """AdamW with a schedule or a constant rate.

    `no_decay`: name patterns of params that do not decay, each of which must match; None chooses by role, see `names`.
    `lr_scales`: {name pattern: factor on the rate}, each of which must match, at most one a name; see `scales`.
    `wake`: {name pattern: updates n}: these sleep through the first n updates: no moment, no decay, no step; then they
    begin as in their first, at the schedule's rate. SwAV's prototypes and DINO's last layer are frozen so at first.
    `impl`: how a step updates, see `blocks.ops.choose`: "torch" is clipping, update and average one after another,
    "triton" one kernel for all, "auto" what is known to be the faster.
    """
    return AdamW(schedule, weight_decay, no_decay, lr_scales, wake, betas, eps, impl)
