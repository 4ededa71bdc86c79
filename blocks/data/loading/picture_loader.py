"""Pictures in files, without shards or labels: what a trained model is asked about."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
import numpy as np
import torch
from torch import Tensor

from blocks.checks import count, count_or_none
from blocks.data.decode import Encoded, UnreadableImage
from blocks.data.loading.loader import is_seconds
from blocks.data.loading.prefetch import one_ahead, side_stream
from blocks.data.loading.slots import Filling, Slot, Transform
from blocks.data.loading.workers import IMAGENET_MEAN, IMAGENET_STD, Normalize, data_loader, from_workers


@attrs.define(eq=False)
class PictureLoader:
    """Batches of pictures in files, in their order, normalised, on the device.

    What cannot be read is left out, and in `skipped` {file: reason}. Any number of passes, one at a time.
    """

    files: Sequence[str | Path]
    batch_size: int = attrs.field(validator=count)
    transform: Transform
    num_workers: int = attrs.field(default=0, validator=count_or_none)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    device: torch.device = attrs.field(default=torch.device("cpu"), converter=torch.device)
    timeout: float = attrs.field(default=600.0, validator=is_seconds)
    skipped: dict[str, str] = attrs.field(init=False, factory=dict, repr=False)
    labelled: ClassVar[bool] = False  # as an index says it

    def __len__(self) -> int:
        return -(-len(self.files) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """{"images": float32 [b, 3, H, W], "index": int64 [b], places in `files`}."""
        normalize = Normalize(self.mean, self.std, self.device)
        batches = FileBatches(self.files, self.batch_size, self.transform)
        workers = data_loader(batches, range(len(self)), self.num_workers, self.device, self.timeout)

        def finished(batch: dict[str, Any]) -> dict[str, Tensor]:
            return {"images": normalize(batch["images"]), "index": batch["index"].to(self.device, non_blocking=True)}

        yield from one_ahead(self._readable(from_workers(workers)), finished, side_stream(self.device))

    def _readable(self, batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for batch in batches:
            self.skipped |= batch["skipped"]
            if batch["images"] is not None:
                yield batch


@attrs.frozen(eq=False)
class FileBatches:
    """number -> the uint8 batch of these files, without the unreadable ones."""

    files: Sequence[str | Path]
    batch_size: int
    transform: Transform

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Images uint8 [b, H, W, 3], or None where there are none, index int64 [b], and what was skipped."""
        first = number * self.batch_size
        filling = Filling(self, self.transform, lambda place, tries: None if tries else place)
        made, chosen = filling(map(Slot, range(first, min(first + self.batch_size, len(self.files)))), None)
        return {"images": made.get("images"), "index": torch.tensor(chosen), "skipped": filling.skipped}

    def picture(self, place: int) -> Encoded:
        """The picture, not yet decoded. Raises UnreadableImage for a file that cannot be read."""
        name = os.fspath(self.files[place])
        try:
            return Encoded(Path(name).read_bytes(), name)
        except OSError as error:
            raise UnreadableImage(name, error.strerror or str(error), Encoded(b"", name)) from error

    def ahead(self, places: np.ndarray) -> None:
        """Files of a disk need no word ahead."""
