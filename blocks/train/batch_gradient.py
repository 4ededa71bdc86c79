"""The gradient of a whole batch: over micro-batches and processes."""

from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import Tensor

from blocks.random import fold_in
from blocks.train.faces import outcome_of
from blocks.train.gradient import Function, LeafCopies
from blocks.train.peers import Peers
from blocks.train.precision import cast_inputs
from blocks.train.report import mean, row_of, total
from blocks.train.state import State
from blocks.tree import Flat

Batch = dict[str, Tensor]
Metrics = dict[str, Tensor]
Loss = Callable[[Any, Any, Batch, Tensor | None], tuple[Tensor, Any, Metrics]]


@attrs.frozen(eq=False)
class BatchGradient:
    """(state, its params by name, this process's share of the batch) -> (memory, trainable params, their gradients,
    the gradients' norm [], metrics), each as for the whole batch in one process.

    `loss` is an objective's; where it `draws`, it gets a key. `keep` the leaf copies where params are updated in place.
    """

    loss: Loss
    draws: bool
    accumulate: int
    dtype: torch.dtype | None
    frozen: tuple[str, ...]
    keep: bool
    peers: Peers

    def __call__(self, state: State, params: Flat, batch: Batch) -> tuple[Any, Flat, Flat, Tensor, Metrics]:
        """The loss is multiplied by the state's loss scale, where it has one, and its gradient divided again."""
        key = fold_in(state.key, state.step) if self.draws else None
        parts = micro_batches(cast_inputs(self.with_index(batch), self.dtype), self.accumulate)
        copies = self.peers.copies(state.params, params, self.dtype, self.frozen, keep=self.keep)
        loss_scale = state.loss_scale["scale"] if state.loss_scale else None
        memory, grads, norm, metrics = self.summed(copies, state.memory, parts, key, loss_scale)
        if loss_scale is not None:
            grads = list(torch._foreach_mul(grads, 1 / loss_scale))
            norm = norm / loss_scale
        return memory, copies.trainable, copies.named(grads), norm, metrics

    def alone(self) -> "BatchGradient":
        """The same, keeping nothing from step to step: for a trace."""
        return attrs.evolve(self, keep=False, peers=Peers(self.peers.rank, self.peers.world_size))

    def summed(
        self, copies: LeafCopies, memory: Any, parts: list[Batch], key: Tensor | None, loss_scale: Tensor | None
    ) -> tuple[Any, list[Tensor], Tensor, Metrics]:
        """(memory, gradients in the copies' order, their norm, metrics), both times the loss scale."""
        world_size = self.peers.world_size
        scale = 1.0 / (self.accumulate * world_size) * (1.0 if loss_scale is None else loss_scale)
        carried = None
        rows: list[Metrics] = []
        for part in parts[:-1]:
            _, memory, grads = copies.gradient(self.noting(rows, memory, part, key), scale)
            carried = added(carried, copies.own(grads))
        last = self.noting(rows, memory, parts[-1], key)
        if world_size == 1:
            _, memory, grads = copies.gradient(last, scale)
            whole = added(carried, copies.own(grads))
            return memory, whole, copies.norm(whole), mean(rows, None, len(rows))

        def then_begin(params: Any) -> tuple[Tensor, Any]:
            found = last(params)
            self.peers.begin(copies, carried, total(rows))  # the metrics travel with the first gradients
            return found

        _, memory = copies.accumulate(then_begin, scale)
        whole, norm, sums = self.peers.finish()
        return memory, whole, norm, mean(rows, sums, len(rows) * world_size)

    def noting(self, rows: list[Metrics], memory: Any, part: Batch, key: Tensor | None) -> Function:
        """params -> (loss, memory) of one micro-batch; its loss and metrics go to rows."""

        def loss_of(params: Any) -> tuple[Tensor, Any]:
            found = self.loss(params, memory, part, key)
            loss, new_memory, metrics = found if self.peers.checked else outcome_of(found)
            rows.append(row_of(loss, metrics))
            return loss, new_memory

        return loss_of

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
