"""Training batches: an endless stream whose only cursor is the number of the step."""

from collections.abc import Iterator
from weakref import WeakSet

import attrs
import torch
from torch import Tensor

from blocks.data.batches import TrainBatches, Transform
from blocks.data.index import Index
from blocks.data.workers import IMAGENET_MEAN, IMAGENET_STD, Normalize, data_loader, from_workers


@attrs.frozen
class Places:
    """Where this process's part of every step's batch lies: (epoch, start, stop), from a step on, without end."""

    start_step: int
    steps_per_epoch: int
    batch_size: int
    rank: int
    world_size: int

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        share, step = self.batch_size // self.world_size, self.start_step
        while True:
            epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
            start = step_of_epoch * self.batch_size + self.rank * share
            yield epoch, start, start + share
            step += 1


class TrainLoader:
    """Batches of a shuffled index; order, crops and flips are functions of (seed, epoch, sample) alone.

    An epoch is `len(index) // batch_size` steps: the rest of its order, another rest every epoch, is left out.
    An unreadable image is replaced by the next of the epoch's order and listed in `skipped` {name: reason}; ten
    unreadable ones in a row are an error. Raises ValueError for sizes that do not fit and for labels out of range.
    """

    def __init__(
        self,
        index: Index,
        *,
        batch_size: int,
        transform: Transform,
        num_classes: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        device: torch.device | str = "cpu",
    ):
        _check_sizes(len(index), batch_size, rank, world_size)
        index.check_labels(num_classes)
        self.steps_per_epoch = len(index) // batch_size
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size
        self.num_workers, self.device = num_workers, torch.device(device)
        self.skipped: dict[str, str] = {}
        self._batches = TrainBatches(index, transform, seed)
        self._normalize = Normalize(mean, std, self.device)
        self._streams: WeakSet = WeakSet()  # an abandoned stream ends with its last reference

    def batches(self, start_step: int = 0) -> Iterator[dict[str, Tensor]]:
        """Batches from a step on, without end, made ahead over the ends of epochs too.

        {"images": float32 [b, 3, H, W] on the device, "labels": int64 [b], "index": int64 [b], the place in the global
        batch}. Leaving it (or `close`) stops its workers.
        """
        stream = self._stream(start_step)
        self._streams.add(stream)
        return stream

    def _stream(self, start_step: int) -> Iterator[dict[str, Tensor]]:
        places = Places(start_step, self.steps_per_epoch, self.batch_size, self.rank, self.world_size)
        share = self.batch_size // self.world_size
        index = torch.arange(self.rank * share, (self.rank + 1) * share, device=self.device)
        for batch in from_workers(data_loader(self._batches, places, self.num_workers, self.device)):
            self.skipped.update(batch["skipped"])
            labels = batch["labels"].to(self.device, non_blocking=True)
            yield {"images": self._normalize(batch["images"]), "labels": labels, "index": index.clone()}

    def close(self) -> None:
        """Stop the workers of all streams."""
        for stream in list(self._streams):
            stream.close()

    def __enter__(self) -> "TrainLoader":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _check_sizes(samples: int, batch_size: int, rank: int, world_size: int) -> None:
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} is not one of {world_size} processes")
    if batch_size < 1 or batch_size % world_size:
        near = max(1, round(batch_size / world_size)) * world_size
        raise ValueError(f"batch_size {batch_size} does not split over {world_size} processes; {near} does")
    if batch_size > samples:
        raise ValueError(f"batch_size {batch_size} is larger than the {samples} samples; use at most {samples}")
