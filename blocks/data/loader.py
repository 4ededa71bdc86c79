"""What a loader for training and one for evaluation have in common: what they are given, and how they are left."""

from typing import Self

import attrs
import torch

from blocks.data.batches import Transform
from blocks.data.index import Index
from blocks.data.workers import IMAGENET_MEAN, IMAGENET_STD, Normalize


def _device(device: torch.device | str) -> torch.device:
    return torch.device(device)


@attrs.define(eq=False, kw_only=True)
class Loader:
    """One process's part of the batches of an index, normalised, on its device.

    Unreadable images are listed in `skipped` {name: reason}. Raises ValueError for labels out of range.
    """

    index: Index = attrs.field(kw_only=False)
    batch_size: int
    transform: Transform
    num_classes: int = attrs.field()
    rank: int = attrs.field(default=0)
    world_size: int = 1
    num_workers: int = 0
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    device: torch.device = attrs.field(default=torch.device("cpu"), converter=_device)
    skipped: dict[str, str] = attrs.field(init=False, factory=dict, repr=False)
    _normalize: Normalize = attrs.field(init=False, repr=False)

    @rank.validator
    def _one_of_the_processes(self, _: attrs.Attribute, rank: int) -> None:
        if not 0 <= rank < self.world_size:
            raise ValueError(f"rank {rank} is not one of {self.world_size} processes")

    @num_classes.validator
    def _holds_all_labels(self, _: attrs.Attribute, num_classes: int) -> None:
        self.index.check_labels(num_classes)

    @_normalize.default
    def _normalize_default(self) -> Normalize:
        return Normalize(self.mean, self.std, self.device)

    def close(self) -> None:
        """Stop the workers."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()
