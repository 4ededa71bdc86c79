"""A linear classifier that learns beside a self-supervised objective, and says how good its features are."""

from collections.abc import Mapping
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from blocks import tree
from blocks.block import Params
from blocks.collective import average
from blocks.notes import Memory, noted
from blocks.objectives.crops import Batch, Model
from blocks.objectives.self_supervised import OfCrops, Outcome, SelfSupervised
from blocks.objectives.supervised import at_least_float32, labels_of
from blocks.objectives.width import feature_width

EPS = 1e-6  # beside a variance
NOTES = ("probe.features", "probe.labels")


@attrs.frozen(eq=False)
class Monitored(OfCrops):
    """An objective and an online probe of its `Outcome.features`; params and their gradient are the objective's, bit
    for bit.

    After each update the probe is tried on the step's features, standardised over the whole batch: "probe_top1". Then
    it takes one step of gradient descent with momentum on them. All of it lies in memory["probe"]. The batch's labels,
    int64 [b], are for the probe alone.
    """

    objective: SelfSupervised
    num_classes: int
    lr: float = 4.0  # for features of length 1; 1 to 16 do nearly as well
    momentum: float = 0.9
    embed_dim: int | None = None  # of the features; the trunk's, where it says so

    def __attrs_post_init__(self) -> None:
        feature_width(self.model, self.embed_dim)
        if self.num_classes < 2 or not self.lr > 0 or not 0 <= self.momentum < 1:
            raise ValueError(
                f"num_classes {self.num_classes}, lr {self.lr} and momentum {self.momentum}: an online probe wants at "
                "least 2 classes, a rate above 0 and a momentum in [0, 1)"
            )

    @property
    def model(self) -> Model:
        """The objective's."""
        return self.objective.model

    @property
    def draws(self) -> bool:
        """Whether the objective wants keys."""
        return self.objective.draws

    @property
    def alarms(self) -> Mapping[str, float]:
        """The objective's lowest healthy metrics."""
        return getattr(self.objective, "alarms", {})

    @property
    def compares_images(self) -> bool:
        """Whether the objective's loss compares those of a micro-batch."""
        return self.objective.compares_images

    def evaluated(self, memory: Memory) -> dict[str, Params]:
        """What the objective has evaluated besides params, such as a teacher."""
        found: Any = getattr(self.objective, "evaluated", None)
        return {} if found is None else found(memory)

    def fresh(self, key: Tensor) -> Params:
        """The objective's fresh params."""
        return self.objective.fresh(key)

    def remember(self, params: Params) -> Memory:
        """The objective's memory, and "probe", which starts at zero."""
        like, width = tree.leaves(params)[0], feature_width(self.model, self.embed_dim)
        shapes = {"weight": (self.num_classes, width), "bias": (self.num_classes,)}
        zeros = {name: like.new_zeros(shape) for name, shape in shapes.items()}
        return {**self.objective.remember(params), "probe": {**zeros, "momentum": tree.clone(zeros)}}

    def outcome(self, params: Params, memory: Memory, batch: Batch, key: Tensor | None) -> Outcome:
        """The objective's outcome; features and labels are noted."""
        found = self.objective.outcome(params, memory, batch, key)
        notes = dict(zip(NOTES, (found.features, labels_of(batch)), strict=True))
        return Outcome(found.loss, noted(found.memory, **notes), found.metrics, found.features)

    def settle_(self, params: Params, memory: Memory, skip: Tensor | None = None) -> tuple[Memory, dict[str, Tensor]]:
        """The objective's (memory without notes, metrics), in place; and the probe learns."""
        notes = dict(memory["notes"])
        features, labels = (notes.pop(name) for name in NOTES)
        memory, metrics = self.objective.settle_(params, {**memory, "notes": notes}, skip)
        with torch.no_grad():
            return memory, metrics | {"probe_top1": self.learn_(memory["probe"], features, labels, skip)}

    def learn_(self, probe: Memory, features: Tensor, labels: Tensor, skip: Tensor | None) -> Tensor:
        """The share of samples that the probe had right [], after which it learns from them; unless skip."""
        x = standardised(at_least_float32(features)).to(probe["weight"])
        scores = F.linear(x, probe["weight"], probe["bias"])  # [b, C]
        wrong = (scores.softmax(1) - F.one_hot(labels, self.num_classes)) / len(x)  # the gradient by scores
        hits = (scores.argmax(1) == labels).to(x).mean()
        shares = (wrong.mT @ x, wrong.sum(0), hits)
        weight, bias, found = unpacked(average(torch.cat([part.flatten() for part in shares])), shares)
        for name, grad in (("weight", weight), ("bias", bias)):
            old = probe["momentum"][name]
            velocity = self.momentum * old + grad
            put_(old, velocity, skip)
            put_(probe[name], probe[name] - self.lr * velocity, skip)
        return found


def monitored(objective: SelfSupervised, num_classes: int) -> SelfSupervised | Monitored:
    """The objective, monitored where there are two classes or more to tell apart; else, as without labels, itself."""
    return Monitored(objective, num_classes) if num_classes > 1 else objective


def standardised(features: Tensor) -> Tensor:
    """Features [b, D] of mean 0 and variance 1 / D by column, over all processes' batches: rows of length 1."""
    wide = features.double()
    mean, square = average(torch.stack((wide.mean(0), wide.square().mean(0))))
    return (wide - mean) / ((square - mean.square() + EPS) * wide.shape[1]).sqrt()


def unpacked(flat: Tensor, like: tuple[Tensor, ...]) -> list[Tensor]:
    """One vector as tensors of the shapes of others."""
    parts = flat.split([part.numel() for part in like])
    return [part.view(other.shape) for part, other in zip(parts, like, strict=True)]


def put_(place: Tensor, value: Tensor, skip: Tensor | None) -> None:
    """Write value, unless skip; a value that is not finite leaves no trace."""
    place.copy_(value if skip is None else torch.where(skip, place, value))
