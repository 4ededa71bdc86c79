"""The optimizer contract: a tree of state, an update in place, and the pure update made of it."""

from typing import Any

import attrs
import torch
from torch import Tensor

from blocks.optim.ema import ema_update_
from blocks.optim.schedule import Schedule as Schedule
from blocks.tree import Tree, clone, flatten, leaves, rebuild


@attrs.frozen
class Optimizer:
    """`init(params) -> state` and `update_(params, grads, state, skip=) -> metrics`. It owns its schedules:
    their step is the number of updates that were applied, which its state counts."""

    def init(self, params: Tree) -> Tree:
        """The state before the first update."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its state is")

    def update_(self, params: Tree, grads: Tree, state: Tree, *, skip: Tensor | None = None) -> dict[str, Tensor]:
        """Update params and state in place and return {"lr": [], ...}. Where skip (bool []) is true nothing changes.

        Params and grads are contiguous; each is a tree or, as from a step, flat: {dotted name: tensor};
        either way `flatten` and `leaves` give them in the params' order.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it updates")

    @torch.no_grad()
    def update_all_(self, params: Tree, grads: Tree, state: Tree, **how: Any) -> dict[str, Tensor]:
        """See `update_in_parts_`; an optimizer may do all in one pass."""
        return update_in_parts_(self, params, grads, state, **how)

    def update(self, params: Tree, grads: Tree, state: Tree, *, skip: Tensor | None = None) -> tuple[Tree, Tree]:
        """New (params, state); the given ones stay as they are."""
        params, state = clone(params), clone(state)
        self.update_(params, grads, state, skip=skip)
        return params, state

    def describe(self, params: Tree) -> dict[str, str]:
        """What is done to each parameter, by dotted name; here that it is updated."""
        return dict.fromkeys(flatten(params), "updated")


def update_in_parts_(
    optimizer: Optimizer,
    params: Tree,
    grads: Tree,
    state: Tree,
    *,
    skip: Tensor | None = None,
    factor: Tensor | None = None,
    average: Tree | None = None,
    ema_decay: float | Tensor = 0.0,
) -> dict[str, Tensor]:
    """`update_` by the gradients times a factor (float []), then `ema_update_` of an average of the params.

    The gradients stay as they are. Of the optimizer it wants no more than `update_`.
    """
    if factor is not None:
        grads = rebuild(grads, iter(torch._foreach_mul(leaves(grads), factor)))
    rates = optimizer.update_(params, grads, state, skip=skip)
    if average is not None:
        ema_update_(average, params, ema_decay, skip=skip)
    return rates
