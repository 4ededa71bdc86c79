"""An objective's gradient against central differences in float64."""

from typing import Any

import torch
from torch import Tensor

from blocks import tree
from blocks.checks import is_whole
from blocks.random import fold_in, normal
from blocks.train.batch_gradient import Batch
from blocks.train.gradient import value_and_grad
from blocks.tree import Flat


def check_gradients(
    objective: Any,
    params: tree.Tree,
    memory: tree.Tree,
    batch: Batch,
    key: Tensor,
    *,
    directions: int = 3,
    step: float = 1e-5,
    tolerance: float = 1e-6,
) -> float:
    """The largest relative error of the gradient's slopes along random directions of the params.

    All are computed in float64, with the same key, whatever the params' type. A direction has a part of length 1 in
    each leaf, so that a wrong gradient of a small leaf shows beside large ones; an error is relative to the sum of the
    leaves' slopes. Raises ValueError that names the worst leaves where it is above the tolerance: the gradient is then
    wrong, or the loss has a kink within `step`, or means to hide a dependence (stop-gradient) that differences see.
    """
    if not is_whole(directions, 1):
        raise ValueError(f"directions {directions!r} is not a count; use a whole number, 1 or more")
    check = _Check(objective, tree.cast(memory, torch.float64), double(batch), key, step)
    params = tree.map(torch.Tensor.contiguous, tree.cast(params, torch.float64))
    _, grads = value_and_grad(lambda p: (check.loss(p), None), params)
    found = [check.errors(params, grads, fold_in(key, place)) for place in range(directions)]
    worst = float(torch.tensor([error for error, _ in found], dtype=torch.float64).max())  # a NaN if there is one
    if not worst <= tolerance:
        ways = next(along for error, along in found if not error <= tolerance)
        raise ValueError(check.complaint(params, grads, ways, worst, tolerance))
    return worst


def double(batch: Batch) -> Batch:
    """The batch with its floating-point tensors in float64."""
    return {name: value.double() if value.is_floating_point() else value for name, value in batch.items()}


class _Check:
    """The loss as a function of params alone, and its slopes."""

    def __init__(self, objective: Any, memory: tree.Tree, batch: Batch, key: Tensor, step: float):
        self.objective, self.memory, self.batch, self.key, self.step = objective, memory, batch, key, step

    def loss(self, params: tree.Tree) -> Tensor:
        return self.objective.loss(params, self.memory, self.batch, self.key)[0]

    @torch.no_grad()
    def slope(self, params: tree.Tree, ways: Flat) -> Tensor:
        """(loss(params + step ways) - loss(params - step ways)) / (2 step), ways by name, those without stay."""
        ends = []
        for sign in (1, -1):
            moved = {n: p + sign * self.step * ways[n] if n in ways else p for n, p in tree.flatten(params).items()}
            ends.append(self.loss(tree.like(params, moved)))
        return (ends[0] - ends[1]) / (2 * self.step)

    def errors(self, params: tree.Tree, grads: tree.Tree, key: Tensor) -> tuple[float, Flat]:
        """(the relative error of the slope along random ways, the ways)."""
        flat = tree.flatten(params)
        ways = {
            n: unit(normal(fold_in(key, i), tuple(p.shape), torch.float64)) for i, (n, p) in enumerate(flat.items())
        }
        parts = torch.stack([(g * ways[name]).sum() for name, g in tree.flatten(grads).items()])
        error = (self.slope(params, ways) - parts.sum()).abs() / parts.abs().sum().clamp(min=1e-300)
        return float(error), ways

    def complaint(self, params: tree.Tree, grads: tree.Tree, ways: Flat, worst: float, tolerance: float) -> str:
        """What is wrong, leaf by leaf: the slopes of the three worst."""
        rows = []
        for name, grad in tree.flatten(grads).items():
            mine, theirs = float((grad * ways[name]).sum()), float(self.slope(params, {name: ways[name]}))
            rows.append((abs(mine - theirs), f"{name} {mine:.6g}, differences {theirs:.6g}"))
        lines = "; ".join(line for _, line in sorted(rows, key=lambda row: -row[0])[:3])
        return (
            f"the gradient is off by {worst:.2g} of itself, more than tolerance {tolerance:g}. "
            f"Slopes where it is worst: {lines}"
        )


def unit(way: Tensor) -> Tensor:
    """The way at length 1."""
    return way / way.norm()
