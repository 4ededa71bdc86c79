"""Supervised classification: cross-entropy with label smoothing, integer or soft targets."""

from typing import Any

import attrs
import torch
from torch import Tensor

from blocks.block import Block
from blocks.checks import is_within
from blocks.ops.cross_entropy import cross_entropy
from blocks.random import fold_in

Batch = dict[str, Tensor]


def is_smoothing(_: object, attribute: attrs.Attribute, value: float) -> None:
    """attrs validator of a label smoothing."""
    if not is_within(value, 0, 1) or value == 1:
        raise ValueError(f"{attribute.name} {value!r} is not in [0, 1); 0 smooths nothing")


@attrs.frozen
class Supervised:
    """Mean cross-entropy of a model's logits. It has no memory: params are the model's own.

    `draws`: whether the model wants keys; by its `is_random`, and one that does not say gets them.
    """

    model: Block
    label_smoothing: float = attrs.field(default=0.0, validator=is_smoothing)
    draws: bool = attrs.field(init=False)

    @draws.default
    def _draws(self) -> bool:
        return getattr(self.model, "is_random", True)

    def init(self, key: Tensor) -> tuple[Any, Any]:
        """(params, memory {})."""
        return self.model.init(key), {}

    def loss(self, params: Any, memory: Any, batch: Batch, key: Tensor | None) -> tuple[Tensor, Any, dict[str, Tensor]]:
        """(loss [], memory, {"top1": []}) of images [B, 3, H, W] and labels, int64 [B] or probabilities [B, C].

        Rows of soft labels should sum to 1; they are taken as they are. top1 is there for integer labels only.
        """
        labels = labels_of(batch)
        logits = self.model(params, batch["images"], key=sample_keys(key, batch))
        loss = cross_entropy(logits, labels, self.label_smoothing)
        return loss, memory, {} if labels.is_floating_point() else {"top1": top1(logits, labels)}


def labels_of(batch: Batch) -> Tensor:
    """The batch's labels. Raises ValueError where it has none."""
    if "labels" not in batch:
        raise ValueError(f"a batch of {', '.join(batch)} has no labels to learn; give an index with labels")
    return batch["labels"]


def at_least_float32(x: Tensor) -> Tensor:
    """Half precisions as float32: exponentials and sums over classes want it."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def sample_keys(key: Tensor | None, batch: Batch) -> Tensor | None:
    """A key for each sample, from its place in the global batch: [2] -> [B, 2]; None stays None."""
    return None if key is None else fold_in(key, sample_index(batch))


def sample_index(batch: Batch) -> Tensor:
    """Each sample's place in the global batch, the batch's index; without one they are counted: int64 [B]."""
    if "index" in batch:
        return batch["index"]
    first = next(iter(batch.values()))
    return torch.arange(len(first), device=first.device)


def top1(logits: Tensor, labels: Tensor) -> Tensor:
    """The share of samples whose largest logit is their label's: [B, C], [B] -> []."""
    return (logits.argmax(-1) == labels).float().mean()
