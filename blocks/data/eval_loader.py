"""Evaluation batches: every image once, over all processes and however many they are."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from blocks.data.batches import EvalBatches, Transform
from blocks.data.index import Index
from blocks.data.workers import IMAGENET_MEAN, IMAGENET_STD, Normalize, data_loader, from_workers


class EvalLoader:
    """This process's share of an index, in stored order; shares differ by one image at most and may be empty.

    Processes may therefore differ in their number of batches: sum over the batches first, over processes at the end.
    Unreadable images are left out and listed in `skipped` {name: reason}. Workers stay for the next pass.
    """

    def __init__(
        self,
        index: Index,
        *,
        batch_size: int,
        transform: Transform,
        num_classes: int,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        device: torch.device | str = "cpu",
    ):
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not one of {world_size} processes")
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size} is not a number of images per process")
        index.check_labels(num_classes)
        first, last = (len(index) * r // world_size for r in (rank, rank + 1))
        self._places = [(start, min(start + batch_size, last)) for start in range(first, last, batch_size)]
        self._batches, self.num_workers = EvalBatches(index, transform), num_workers
        self.device = torch.device(device)
        self.skipped: dict[str, str] = {}
        self._normalize = Normalize(mean, std, self.device)
        self._loader: DataLoader | None = None

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """{"images": float32 [b, 3, H, W] on the device, "labels": int64 [b], "index": int64 [b], its sample}."""
        if not self._places:
            return
        if self._loader is None:
            self._loader = data_loader(self._batches, self._places, self.num_workers, self.device, persistent=True)
        for batch in from_workers(self._loader):
            self.skipped.update(batch["skipped"])
            if batch["images"] is not None:
                labels, index = (batch[name].to(self.device, non_blocking=True) for name in ("labels", "index"))
                yield {"images": self._normalize(batch["images"]), "labels": labels, "index": index}

    def close(self) -> None:
        """Stop the workers."""
        self._loader = None

    def __enter__(self) -> "EvalLoader":
        return self

    def __exit__(self, *_) -> None:
        self.close()
