"""Crops of images, through a trunk and a head."""

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from blocks.block import Block, Params
from blocks.objectives.supervised import at_least_float32
from blocks.random import fold_in

Batch = dict[str, Tensor]


class Model(Protocol):
    """Images to pooled features, and a head: `blocks.trunks.model.Model`, or anything with this face."""

    @property
    def head(self) -> Block | None:
        """Features [B, D] -> embeddings [B, E]; its params lie below "head"."""

    @property
    def is_random(self) -> bool:
        """Whether it drops anything, given a key."""

    def init(self, key: Tensor) -> Params:
        """Fresh params."""

    def features(self, params: Params, images: Tensor, *, key: Tensor | None = None) -> Tensor:
        """images [B, C, H, W] -> [B, D]."""


def crops_of(batch: Batch) -> list[Tensor]:
    """The crops by size, [b, V, 3, H, W] each, as `batch["crops.0"]`, `batch["crops.1"]` ... hold them."""
    groups: list[Tensor] = []
    while f"crops.{len(groups)}" in batch:
        groups.append(batch[f"crops.{len(groups)}"])
    if not groups:
        raise ValueError(f"the batch has {sorted(batch)} and no crops.0; give the loader a MultiCrop transform")
    return groups


def embed(model: Model, params: Params, groups: list[Tensor], keys: Tensor | None) -> Tensor:
    """Pooled features of all crops, those of one size in one pass: -> [V, b, D]. keys [b, 2] are the samples'."""
    found, first = [], 0
    for crops in groups:
        views = crops.shape[1]
        images = crops.transpose(0, 1).flatten(0, 1)  # [V b, 3, H, W]
        own = None if keys is None else view_keys(keys, views, first)
        found.append(model.features(params, images, key=own).unflatten(0, (views, -1)))
        first += views
    return found[0] if len(found) == 1 else torch.cat(found)


def view_keys(keys: Tensor, views: int, first: int = 0) -> Tensor:
    """Keys of the samples' views number first to first + views - 1, view by view: [b, 2] -> [V b, 2]."""
    return torch.cat([fold_in(keys, first + v) for v in range(views)])


def project(
    head: Block | None, params: Params, features: Tensor, *, separately: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """(embeddings [V, b, E], moments of the head's batch norms, [1, C] each by dotted name) of features [V, b, D].

    With `separately` each view meets batch norm on its own, as if it alone went through; else all views together.
    """
    if head is None:
        return features, {}
    parts = features.unbind(0) if separately else (features.flatten(0, 1),)
    found = [observed(head, params, part) for part in parts]
    z = torch.stack([z for z, _ in found]) if separately else found[0][0].unflatten(0, features.shape[:2])
    return z, {name: torch.stack([m[name] for _, m in found]).mean(0, keepdim=True) for name in found[0][1]}


def observed(block: Block, params: Params, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """(block(x), the moments [C] that its batch norms found, by dotted name: "layers.0.norm.running_mean" ...)."""
    watched: Any = getattr(block, "observed", None)
    return (block(params, x), {}) if watched is None else watched(params, x)


def unit(z: Tensor) -> Tensor:
    """Rows of length 1, float32 at least."""
    return F.normalize(at_least_float32(z), dim=-1)
