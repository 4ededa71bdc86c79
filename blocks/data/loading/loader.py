"""What a loader for training and one for evaluation have in common: what they are given, and how they are left."""

from collections.abc import Iterable, Mapping
from typing import Any, Self

import attrs
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from blocks.checks import count, count_or_none, is_above_0, is_whole, one_of
from blocks.data.augment.checks import share
from blocks.data.index.index import Index
from blocks.data.loading.kept import Cut
from blocks.data.loading.kept_reader import KEEPS, Kept, check_room, kept_as
from blocks.data.loading.made import Checked
from blocks.data.loading.slots import Transform
from blocks.data.loading.transform import check_sendable, check_transform
from blocks.data.loading.workers import IMAGENET_MEAN, IMAGENET_STD, Normalize, data_loader
from blocks.data.seen import description

FEW = 10  # unreadable images that are borne in the smallest data set
LISTED = 5  # of them that an error names
LABELS_LEFT_OUT = (
    "; to pretrain on all images leave the labels out: write shards --unlabelled, or index.without_labels()"
)


def is_seconds(_, attribute, value) -> None:
    """attrs validator of a time to wait."""
    if not is_above_0(value):
        raise ValueError(f"{attribute.name} {value!r} is not a number of seconds above 0")


def _is_transform(_, attribute, value) -> None:
    check_transform(value)


def _device(device: torch.device | str) -> torch.device:
    return torch.device(device)


@attrs.define(eq=False)
class Loader:
    """One process's part of the batches of an index, normalised, on its device.

    Unreadable images, and samples that lack their label or image, are listed in `skipped` {name: reason}. More of them
    than the share `max_unreadable` of all samples are an error, as soon as this process has met so many, or all
    together at an epoch's end; so many without label or image at once. Ten are always borne, but with 0 not a single
    one.
    `decoded` keeps every picture decoded from the first time on: on the "disk", in a file that all processes of a
    machine share and later runs find again, read into each process's "memory", or on the "device", where no workers
    are needed. What is kept is of one size. A set larger than $VITMASON_DECODED_GB (of 10^9 bytes; by default half of
    the memory or device that is free, and of a disk what leaves a tenth free) is an error here; on the disk the sets
    least recently used make way. It changes no pixel, but for boxes of whole pictures at least four times the size both
    ways: without it those of JPEGs are decoded at reduced scale (`resized`).
    A batch that takes longer than `timeout` seconds, with workers or without, is an error too: storage that hangs is no
    hang here.
    `num_classes` are by default those of the index; an index without labels has 0, and its batches have no "labels".
    Raises ValueError for labels out of range.
    """

    index: Index
    batch_size: int = attrs.field(validator=count)
    transform: Transform = attrs.field(validator=_is_transform)
    num_classes: int = attrs.field()
    rank: int = attrs.field(default=0)
    world_size: int = attrs.field(default=1, validator=count)
    num_workers: int = attrs.field(default=0)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    device: torch.device = attrs.field(default=torch.device("cpu"), converter=_device)
    max_unreadable: float = attrs.field(default=0.01, validator=share)
    timeout: float = attrs.field(default=600.0, validator=is_seconds)
    decoded: str | None = attrs.field(default=None, validator=attrs.validators.optional(one_of(KEEPS)))
    skipped: dict[str, str] = attrs.field(init=False, factory=dict, repr=False)
    _kept: Kept | None = attrs.field(init=False, default=None, repr=False)
    _normalize: Normalize = attrs.field(init=False, repr=False)

    @rank.validator
    def _one_of_the_processes(self, _: attrs.Attribute, rank: int) -> None:
        if not is_whole(rank, 0) or rank >= self.world_size:
            raise ValueError(f"rank {rank} is not one of {self.world_size} processes")

    @num_workers.validator
    def _can_be_given_the_transform(self, attribute: attrs.Attribute, num_workers: int) -> None:
        count_or_none(self, attribute, num_workers)
        check_sendable(self.transform, num_workers)

    @num_classes.default
    def _those_of_the_index(self) -> int:
        return self.index.num_classes

    @num_classes.validator
    def _holds_all_labels(self, attribute: attrs.Attribute, num_classes: int) -> None:
        count_or_none(self, attribute, num_classes)
        if num_classes and not self.index.labelled:
            raise ValueError(
                f"num_classes {num_classes} and samples without labels do not fit; give 0, or labelled shards"
            )
        if not num_classes and self.index.labelled:
            raise ValueError(
                "num_classes 0 and samples with labels; give their number of classes, or index.without_labels()"
            )
        if num_classes:
            self.index.check_labels(num_classes)

    @max_unreadable.validator
    def _bears_those_without_label(self, *_) -> None:
        missing = self.index.incomplete
        if len(missing) > self.most_unreadable:
            first = {self.index.name(sample): self.index.why_incomplete(sample) for sample in missing[:LISTED]}
            raise ValueError(
                f"{len(missing)} of {len(self.index)} samples have no {self.index.what_lacks}, {self._borne()}"
                + (LABELS_LEFT_OUT if self.index.labelled else "")
                + f":\n{_listed(first, len(missing))}"
            )

    @_normalize.default
    def _normalize_default(self) -> Normalize:
        return Normalize(self.mean, self.std, self.device)

    def _cut(self) -> Cut | None:
        """What makes pictures of one size that can be kept; None keeps whole ones."""
        raise NotImplementedError

    def _check_decoded(self) -> None:
        if self.decoded is not None:
            check_room(self.index, self.decoded, self._cut(), self.device, self.world_size)

    def _keeping(self) -> Kept | None:
        """The kept pictures, if they are to be kept; made at first use."""
        if self.decoded is not None and self._kept is None:
            what = self.index, self.decoded, Checked(self.transform), self._cut(), self.device, self.num_workers
            self._kept = kept_as(*what)
        return self._kept

    def _workers(self, batches: Any, numbers: Iterable[int], persistent: bool = False) -> DataLoader:
        """batches[number] for every number, made ahead; from the kept pictures, if they are to be kept."""
        kept = self._keeping()
        if kept is not None:
            batches = attrs.evolve(batches, reader=kept.reader, transform=kept.transform)
        return data_loader(batches, numbers, self._hands(kept), self.device, self.timeout, persistent)

    def _hands(self, kept: Kept | None) -> int:
        """Workers: none where all pictures are on the device."""
        return 0 if kept is not None and kept.pixels is not None else self.num_workers

    def _gathered(self, images: Tensor) -> Tensor:
        return images if self._kept is None else self._kept.gathered(images)

    @property
    def description(self) -> dict[str, Any]:
        """What it shows, for those who want to see the same: JSON-able."""
        return description(self.index, self.transform, self.mean, self.std)

    @property
    def most_unreadable(self) -> int:
        """How many unreadable images are borne."""
        return max(FEW, int(self.max_unreadable * len(self.index))) if self.max_unreadable else 0

    def check_unreadable(self, skipped: Mapping[str, str]) -> None:
        """Raises ValueError for more unreadable images than `max_unreadable` allows."""
        if len(skipped) <= self.most_unreadable:
            return
        raise ValueError(
            f"{len(skipped)} of {len(self.index)} images are unreadable, {self._borne()}:\n"
            + _listed(skipped, len(skipped))
        )

    def _borne(self) -> str:
        return (
            f"and max_unreadable {self.max_unreadable:g} bears {self.most_unreadable}; mend these shards, or raise "
            "max_unreadable to go on without them"
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


def _listed(skipped: Mapping[str, str], count: int) -> str:
    """The first of so many, by name."""
    lines = [f"  {name}: {reason}" for name, reason in sorted(skipped.items())[:LISTED]]
    return "\n".join([*lines, f"  and {count - LISTED} more"] if count > LISTED else lines)
