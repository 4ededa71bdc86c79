"""One step of many runs of a small model: one vmapped forward pass, one backward pass, then each run's own update.

The runs' states are stacked: every leaf has the runs as its first axis, K.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from blocks import tree
from blocks.optim.clip import Clip
from blocks.optim.optimizer import Optimizer
from blocks.random import fold_in
from blocks.train.batch_gradient import Batch, Metrics
from blocks.train.faces import check_faces, check_memory, outcome_of
from blocks.train.gradient import LeafCopies
from blocks.train.report import Row, row_of
from blocks.train.state import State
from blocks.train.step import init_state, not_finite, one_clip
from blocks.tree import Flat


def init_sweep(objective: Any, optimizers: Sequence[Optimizer], keys: Sequence[Tensor]) -> State:
    """The runs' first states, stacked; run k's is `init_state(objective, optimizers[k], keys[k])`.

    Raises ValueError for optimizers of several kinds, unless there is a key [2] for each, and for an objective that
    settles its memory after an update.
    """
    if hasattr(objective, "settle_"):
        raise ValueError(
            f"{type(objective).__name__} changes its memory after each update, and a sweep has no place for that; "
            "run it once for every optimizer"
        )
    if not optimizers or len(optimizers) != len(keys):
        raise ValueError(f"{len(optimizers)} optimizers and {len(keys)} seeds; a sweep wants one of each for every run")
    kinds = list(dict.fromkeys(type(optimizer).__name__ for optimizer in optimizers))
    if len(kinds) > 1:
        raise ValueError(
            f"a sweep's optimizers are of one kind, these are {' and '.join(kinds)}; sweep each kind apart"
        )
    return stacked([init_state(objective, optimizer, key) for optimizer, key in zip(optimizers, keys, strict=True)])


def make_sweep_step(
    objective: Any,
    optimizers: Sequence[Optimizer],
    *,
    clip: Clip | None = None,
    clip_norm: float | None = None,
    donate: bool = False,
) -> Callable[[State, Batch], tuple[State, Metrics]]:
    """`step(state, batch) -> (state, metrics)` for all runs, pure; with donate it reuses the given state's storage.

    It does to run k what `make_step(objective, optimizers[k], clip=..., clip_norm=...)` would, up to rounding. A run
    whose loss or gradient is not finite stands still, it alone. Metrics are `make_step`'s, [K] each.
    """
    for optimizer in optimizers:
        check_faces(objective, optimizer)
    return SweepStep(objective, tuple(optimizers), one_clip(clip, clip_norm), donate)


@attrs.frozen(eq=False)
class SweepStep:
    """`make_sweep_step`'s result. Calling it is the step; all runs see the same batch, each draws from its own key."""

    objective: Any
    optimizers: tuple[Optimizer, ...]
    clip: Clip | None
    donate: bool

    def __call__(self, state: State, batch: Batch) -> tuple[State, Metrics]:
        """One update of every run: (stacked state, batch) -> (stacked state, {"loss": [K], ...})."""
        self.check(state)
        state = state if self.donate else tree.clone(state)
        memory, grads, metrics = self.differentiate(state, batch)
        with torch.no_grad():
            return self.apply(state, memory, grads, metrics)

    def check(self, state: State) -> None:
        if state.step.shape != (len(self.optimizers),):
            raise ValueError(
                f"a state whose step is {list(state.step.shape)} is not one of {len(self.optimizers)} runs; "
                "make it by init_sweep with this step's optimizers"
            )

    def differentiate(self, state: State, batch: Batch) -> tuple[Any, Flat, Metrics]:
        """(memory, gradients, metrics), stacked. The gradient of the losses' sum is, row by row, each run's own."""
        key = fold_in(state.key, state.step) if getattr(self.objective, "draws", True) else None  # [K, 2]
        index = torch.arange(len(next(iter(batch.values()))), device=state.step.device)
        loss_of_one = self.loss_of_one(state.memory, {"index": index, **batch})
        loss_of_all = torch.vmap(loss_of_one, in_dims=(0, 0, None if key is None else 0))

        def sum_of_losses(params: Any) -> tuple[Tensor, Any]:
            with vmappable_attention(state.step.device):
                row, memory = loss_of_all(params, tree.leaves(state.memory), key)
            return row["loss"].sum(), (row_of(row["loss"], row), memory)

        copies = LeafCopies(state.params)
        _, (metrics, memory), grads = copies.gradient(sum_of_losses)
        return filled(state.memory, memory), copies.named(copies.own(grads)), metrics

    def loss_of_one(self, template: Any, batch: Batch) -> Callable[..., tuple[Row, list[Tensor]]]:
        """(params, leaves of the memory, key) -> (loss and metrics, leaves of the new memory) of one run."""

        def loss(params: Any, leaves: list[Tensor], key: Tensor | None) -> tuple[Row, list[Tensor]]:
            old = filled(template, leaves)
            value, memory, metrics = outcome_of(self.objective.loss(params, old, batch, key))
            check_memory(old, memory, "loss")
            named = tree.flatten(memory)
            return {"loss": value, **metrics}, [named[name] for name in tree.flatten(old)]

        return loss

    def apply(self, state: State, memory: Any, grads: Flat, metrics: Metrics) -> tuple[State, Metrics]:
        """Every run's update, or none of it where its loss or gradient is not finite."""
        norm = norms(list(grads.values()))
        skip = not_finite(metrics["loss"], norm)
        runs = [runs_of(part, len(self.optimizers)) for part in (tree.flatten(state.params), grads, state.optimizer)]
        rates = [self.update(*run) for run in zip(self.optimizers, *runs, norm, skip, strict=True)]
        of_all = {name: torch.stack([row[name] for row in rates]) for name in rates[0] if all(name in r for r in rates)}
        skipped = (state.skipped + 1) * skip
        new = attrs.evolve(state, memory=chosen(skip, state.memory, memory), step=state.step + 1, skipped=skipped)
        return new, {**metrics, **of_all, "grad_norm": norm, "skipped": skipped}

    def update(
        self, optimizer: Optimizer, params: Flat, grads: Flat, state: tree.Tree, norm: Tensor, skip: Tensor
    ) -> Metrics:
        """One run's update in its rows, in place: {"lr": [], ...}."""
        if self.clip is not None:
            grads = self.clip(params, grads, norm)
        return optimizer.update_(params, grads, state, skip=skip)


def stacked(trees: Sequence[tree.Tree]) -> tree.Tree:
    """K like trees as one: [...] each -> [K, ...]."""
    return tree.map(lambda *leaves: torch.stack(leaves), *trees)


def run_of(state: tree.Tree, run: int) -> tree.Tree:
    """One run's part of a stacked tree, views: [K, ...] -> [...]."""
    return tree.map(lambda leaf: leaf[run], state)


def runs_of(state: tree.Tree, count: int) -> list[tree.Tree]:
    """All `count` runs' parts; faster than one by one."""
    rows = zip(*(leaf.unbind(0) for leaf in tree.leaves(state)), strict=True)
    return [filled(state, row) for row in rows] or [state] * count  # a tree without leaves is every run's


def filled(template: tree.Tree, leaves: Sequence[Tensor]) -> tree.Tree:
    """The template's tree with other leaves, which may have other shapes."""
    values = iter(leaves)
    return tree.map(lambda _: next(values), template)


def chosen(skip: Tensor, old: tree.Tree, new: tree.Tree) -> tree.Tree:
    """The new tree, with the old one's rows where skip [K] is true."""
    return tree.map(lambda o, n: torch.where(skip.view(-1, *(1,) * (o.ndim - 1)), o, n.detach()), old, new)


def norms(grads: Sequence[Tensor]) -> Tensor:
    """Each run's 2-norm of all its gradients taken as one vector: [K, ...] each -> [K]."""
    of_leaves = [torch.linalg.vector_norm(grad.flatten(1), dim=1) for grad in grads]
    return torch.linalg.vector_norm(torch.stack(of_leaves), dim=0)


def vmappable_attention(device: torch.device) -> AbstractContextManager:
    """On a CPU, attention by matmuls and softmax: torch's fused kernel has no vmap rule there and would loop."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
