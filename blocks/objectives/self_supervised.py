"""What all self-supervised objectives share."""

from typing import ClassVar

import attrs
import torch
from torch import Tensor

from blocks import tree
from blocks.block import Block, Params
from blocks.notes import Memory, taken
from blocks.objectives.collapse import ALARMS
from blocks.objectives.crops import Batch, Model
from blocks.objectives.moments import running, settle_moments_


@attrs.define(eq=False)  # not frozen: torch.compile cannot follow how a frozen one is built
class Outcome:
    """What an objective found: `features` [b, D], without gradient, are the first crop's, for whoever watches."""

    loss: Tensor
    memory: Memory
    metrics: dict[str, Tensor]
    features: Tensor


class OfCrops:
    """What follows from `fresh`, `remember` and `outcome`: the face of an objective."""

    __slots__ = ()

    def init(self, key: Tensor) -> tuple[Params, Memory]:
        """(fresh params, the memory that belongs to them)."""
        params = self.fresh(key)
        return params, self.remember(params)

    def fresh(self, key: Tensor) -> Params:
        """Fresh params."""
        raise NotImplementedError(f"{type(self).__name__} does not say how its params begin")

    def remember(self, params: Params) -> Memory:
        """The memory that belongs to these params before the first step."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it remembers")

    def outcome(self, params: Params, memory: Memory, batch: Batch, key: Tensor | None) -> Outcome:
        """Loss, memory with notes, metrics, and the first crop's features."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it minimises")

    def loss(
        self, params: Params, memory: Memory, batch: Batch, key: Tensor | None
    ) -> tuple[Tensor, Memory, dict[str, Tensor]]:
        """(loss [], memory with notes, metrics) of a batch of crops."""
        found = self.outcome(params, memory, batch, key)
        return found.loss, found.memory, found.metrics


@attrs.frozen(eq=False)
class SelfSupervised(OfCrops):
    """An objective of crops. Its params are the model's, and its own parts' beside them ("predictor", "prototypes").

    Memory changes once a step: `loss` only leaves notes in it, which `settle_` takes out again, and applies.
    """

    model: Model
    alarms: ClassVar = ALARMS
    compares_images: ClassVar[bool] = True  # those of a micro-batch, so that `accumulate` changes the loss

    @property
    def draws(self) -> bool:
        """Whether the loss wants keys."""
        return self.model.is_random

    def fresh(self, key: Tensor) -> Params:
        """Fresh params."""
        return self.model.init(key)

    def parts(self) -> dict[str, Block | None]:
        """The blocks whose batch norms' moments are remembered, by name: the head."""
        return {"head": self.model.head}

    def remember(self, params: Params) -> Memory:
        """The memory before the first step: {"step": int64 [] updates so far}, and "moments" where a head has any."""
        leaf = tree.leaves(params)[0]
        step = torch.zeros((), dtype=torch.int64, device=leaf.device)
        return {"step": step, **tree.to(running(**self.parts()), leaf.device)}

    def settle_(self, params: Params, memory: Memory, skip: Tensor | None = None) -> tuple[Memory, dict[str, Tensor]]:
        """(memory without notes, metrics) after an update, in place on both; where skip (bool []) is true they stay."""
        memory, notes = taken(memory)
        settle_moments_(memory, notes, skip)
        metrics = self.carry_(params, memory, notes, skip)
        memory["step"].add_(1 if skip is None else ~skip)
        return memory, metrics

    def carry_(
        self, params: Params, memory: Memory, notes: dict[str, Tensor], skip: Tensor | None
    ) -> dict[str, Tensor]:
        """What a step changes besides params, in place, unless skip; returns metrics."""
        return {}
