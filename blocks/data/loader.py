"""What a loader for training and one for evaluation have in common: what they are given, and how they are left."""

from collections.abc import Mapping
from typing import Self

import attrs
import torch

from blocks.data.augment.checks import share
from blocks.data.index import Index
from blocks.data.slots import Transform
from blocks.data.workers import IMAGENET_MEAN, IMAGENET_STD, Normalize

FEW = 10  # unreadable images that are borne in the smallest data set
LISTED = 5  # of them that an error names


def _device(device: torch.device | str) -> torch.device:
    return torch.device(device)


@attrs.define(eq=False, kw_only=True)
class Loader:
    """One process's part of the batches of an index, normalised, on its device.

    Unreadable images are listed in `skipped` {name: reason}. More of them than the share `max_unreadable` of all
    samples are an error, as soon as this process has met so many, or all together at an epoch's end; ten are always
    borne, but with 0 not a single one.
    A batch that takes the workers longer than `timeout` seconds is an error too: storage that hangs is no hang here.
    Raises ValueError for labels out of range.
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
    max_unreadable: float = attrs.field(default=0.01, validator=share)
    timeout: float = attrs.field(default=600.0, validator=attrs.validators.gt(0))
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

    @property
    def most_unreadable(self) -> int:
        """How many unreadable images are borne."""
        return max(FEW, int(self.max_unreadable * len(self.index))) if self.max_unreadable else 0

    def check_unreadable(self, skipped: Mapping[str, str]) -> None:
        """Raises ValueError for more unreadable images than `max_unreadable` allows."""
        if len(skipped) <= self.most_unreadable:
            return
        listed = [f"  {name}: {reason}" for name, reason in sorted(skipped.items())[:LISTED]]
        listed += [f"  and {len(skipped) - LISTED} more"] if len(skipped) > LISTED else []
        raise ValueError(
            f"{len(skipped)} of {len(self.index)} images are unreadable, and max_unreadable {self.max_unreadable:g} "
            f"bears {self.most_unreadable}; mend these shards, or raise max_unreadable to go on without them:\n"
            + "\n".join(listed)
        )

    def _note(self, skipped: Mapping[str, str]) -> None:
        self.skipped.update(skipped)
        self.check_unreadable(self.skipped)

    def close(self) -> None:
        """Stop the workers."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()
