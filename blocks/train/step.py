"""The training step, a pure function: `step(state, batch) -> (state, metrics)`."""

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
import torch.distributed as dist
from torch import Tensor

from blocks import tree
from blocks.optim.clip import global_norm, scale_to_norm
from blocks.optim.ema import ema_update_
from blocks.optim.optimizer import Optimizer
from blocks.random import fold_in, split
from blocks.train.gradient import LeafCopies
from blocks.train.peers import Peers
from blocks.train.precision import cast_inputs, compute_dtype
from blocks.train.report import mean, row_of, total
from blocks.train.state import State

Batch = dict[str, Tensor]
Flat = dict[str, Tensor]  # params or gradients by dotted name
Metrics = dict[str, Tensor]


def init_state(objective: Any, optimizer: Optimizer, key: Tensor, *, ema: bool = False) -> State:
    """The state before the first step, on the key's device; with ema, an average of the params is kept."""
    init_key, run_key = split(key).unbind()
    params, memory = objective.init(init_key)
    params = tree.map(torch.Tensor.contiguous, params)
    zero = torch.zeros((), dtype=torch.int64, device=key.device)
    average = tree.clone(params) if ema else {}
    return State(params, optimizer.init(params), memory, average, zero, run_key.clone(), zero.clone())


def make_step(
    objective: Any,
    optimizer: Optimizer,
    *,
    accumulate: int = 1,
    clip_norm: float | None = None,
    ema_decay: float | None = None,
    precision: str = "float32",
    donate: bool = False,
    group: dist.ProcessGroup | None = None,
) -> Callable[[State, Batch], tuple[State, Metrics]]:
    """`step(state, batch) -> (state, metrics)`, pure; with donate it reuses the given state's storage.

    The batch is this process's share; it is worked off in `accumulate` equal parts. Where the loss or the gradient's
    norm is not finite, on any process, params, optimizer, ema and memory stay as they are and `skipped` counts up.
    Metrics, 0-dim tensors, means over all processes of the group: loss, lr, grad_norm, skipped, and the objective's.
    """
    if accumulate < 1:
        raise ValueError(f"accumulate {accumulate} is not a number of micro-batches; use 1 or more")
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm {clip_norm} is not above 0; None switches clipping off")
    if ema_decay is not None and not 0 <= ema_decay < 1:
        raise ValueError(f"ema_decay {ema_decay} is not in [0, 1); None keeps no average")
    dtype = compute_dtype(precision)
    return Step(objective, optimizer, accumulate, clip_norm, ema_decay, dtype, donate, Peers.of(group))


@attrs.frozen(eq=False)
class Step:
    """`make_step`'s result. Calling it is the step; nothing it holds changes what it returns."""

    objective: Any
    optimizer: Optimizer
    accumulate: int
    clip_norm: float | None
    ema_decay: float | None
    dtype: torch.dtype | None
    donate: bool
    peers: Peers

    def __call__(self, state: State, batch: Batch) -> tuple[State, Metrics]:
        """One update: (state, this process's share of the batch) -> (state, metrics)."""
        self.check(state)
        state = state if self.donate else tree.clone(state)
        params = tree.flatten(state.params)
        memory, grads, norm, metrics = self.differentiate(state, params, batch)
        with torch.no_grad():
            return self.apply(state, params, memory, grads, norm, metrics)

    def check(self, state: State) -> None:
        if (self.ema_decay is None) != (isinstance(state.ema, dict) and not state.ema):
            have, want = ("no", "is") if self.ema_decay is not None else ("an", "is not")
            raise ValueError(
                f"the state has {have} ema, and ema_decay {want} given; use init_state(..., ema=True) with "
                "make_step(..., ema_decay=0.9999), or neither"
            )

    def differentiate(self, state: State, params: Flat, batch: Batch) -> tuple[Any, Flat, Tensor, Metrics]:
        """(memory, gradients, their norm, metrics) of the whole batch over all processes."""
        key = fold_in(state.key, state.step) if getattr(self.objective, "draws", True) else None
        parts = micro_batches(cast_inputs(self.with_index(batch), self.dtype), self.accumulate)
        copies = self.peers.copies(state.params, params, self.dtype, keep=self.donate)
        memory, carried = state.memory, None
        rows: list[Metrics] = []
        for part in parts[:-1]:
            memory, grads = self.backward(copies, memory, part, key, rows)
            carried = added(carried, copies.own(grads))
        if self.peers.world_size == 1:
            memory, grads = self.backward(copies, memory, parts[-1], key, rows)
            whole = added(carried, copies.own(grads))
            return memory, copies.named(whole), global_norm(whole), mean(rows, None, len(rows))
        memory, _ = self.backward(
            copies, memory, parts[-1], key, rows, lambda: self.peers.begin(copies.originals, carried, total(rows))
        )
        grads, norm, sums = self.peers.finish()
        return memory, copies.named(grads), norm, mean(rows, sums, len(rows) * self.peers.world_size)

    def backward(
        self,
        copies: LeafCopies,
        memory: Any,
        part: Batch,
        key: Tensor | None,
        rows: list[Metrics],
        between: Callable[[], None] = lambda: None,
    ) -> tuple[Any, Sequence[Tensor]]:
        """(memory, this part's share of the gradient) of one micro-batch; its loss and metrics go to rows.

        `between` is called after the forward pass, before the backward pass.
        """

        def loss_of(params: Any) -> tuple[Tensor, Any]:
            loss, new_memory, metrics = self.objective.loss(params, memory, part, key)
            rows.append(row_of(loss, metrics))
            between()
            return loss, new_memory

        _, memory, grads = copies.gradient(loss_of, 1.0 / (self.accumulate * self.peers.world_size))
        return memory, grads

    def apply(
        self, state: State, params: Flat, memory: Any, grads: Flat, norm: Tensor, metrics: Metrics
    ) -> tuple[State, Metrics]:
        """The update, or none of it where the loss or the gradient is not finite."""
        skip = ~(norm + metrics["loss"].abs() < torch.inf)  # a NaN compares false
        if self.clip_norm is not None:
            grads = dict(zip(grads, scale_to_norm(list(grads.values()), norm, self.clip_norm), strict=True))
        rates = self.optimizer.update_(params, grads, state.optimizer, skip=skip)
        if self.ema_decay is not None:
            ema_update_(state.ema, params, self.ema_decay, skip=skip)
        memory = choose(skip, state.memory, memory)
        skipped = (state.skipped + 1) * skip
        new = attrs.evolve(state, memory=memory, step=state.step + 1, skipped=skipped)
        return new, {**metrics, **rates, "grad_norm": norm, "skipped": skipped}

    def with_index(self, batch: Batch) -> Batch:
        """The batch with each sample's place in the global batch; by default process r has the r-th share."""
        if "index" in batch:
            return batch
        first = next(iter(batch.values()))
        start = self.peers.rank * len(first)
        return {**batch, "index": torch.arange(start, start + len(first), device=first.device)}


def micro_batches(batch: Batch, count: int) -> list[Batch]:
    """Equal contiguous parts along the first axis. Raises ValueError where the batch cannot be so divided."""
    if count == 1:
        return [batch]
    size = len(next(iter(batch.values())))
    if size % count:
        raise ValueError(f"a batch of {size} (on this process) cannot be accumulated in {count} equal parts")
    chunks = {name: value.split(size // count) for name, value in batch.items()}
    return [{name: parts[i] for name, parts in chunks.items()} for i in range(count)]


def added(carried: list[Tensor] | None, grads: list[Tensor]) -> list[Tensor]:
    """carried + grads as new tensors: autograd may give one tensor for two leaves."""
    return grads if carried is None else list(torch._foreach_add(carried, grads))


def choose(skip: Tensor, old: Any, new: Any) -> Any:
    """The new tree, or the old one where skip is true; detached."""
    if isinstance(old, dict) and not old:
        return new
    return tree.map(lambda o, n: o if o is n else torch.where(skip, o, n.detach()), old, new)
