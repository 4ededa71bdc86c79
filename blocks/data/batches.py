"""Batches by number, made in a worker: a function of the index, the seed and the place in the run."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from blocks.data.decode import Encoded, UnreadableImage
from blocks.data.index import Index
from blocks.data.order import augment_keys, epoch_order, repeated_places
from blocks.data.read import Reader
from blocks.data.views import Pictures, named

Transform = Callable[[Sequence[Image.Image | Encoded], Tensor | None], Tensor | Pictures]
MAX_UNREADABLE = 10  # in a row: then it is not the image that is damaged
CHUNK_IMAGES, CHUNK_PIXELS = 64, 1 << 25  # pictures held at a time: one draw of keys for many, 100 MB at most


@functools.lru_cache(maxsize=2)
def _order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    return epoch_order(num_samples, seed, epoch).numpy()


@attrs.frozen(eq=False)
class TrainBatches:
    """(epoch, start, stop) -> the uint8 batch of these places of the epoch's order.

    With repeats, start and stop lie in one batch of `batch_size`, and the places are those of `repeated_places`.
    """

    index: Index
    transform: Transform
    seed: int
    batch_size: int = 1
    repeats: int = 1
    reader: Reader = attrs.field(init=False)

    @reader.default
    def _reader(self) -> Reader:
        return Reader(self.index)

    def __getitem__(self, place: tuple[int, int, int]) -> dict[str, Any]:
        """Images uint8 [b, H, W, 3] (or crops), their keys [b, 2], labels [b], and the name and reason of each
        unreadable one.
        """
        epoch, start, stop = place
        order = _order(len(self.index), self.seed, epoch)
        if self.repeats == 1:
            keys = augment_keys(torch.from_numpy(order[start:stop]), self.seed, epoch)
            return self._batch(order, range(start, stop), keys)
        places, copies = repeated_places(start, stop, self.batch_size, self.repeats)
        keys = augment_keys(torch.from_numpy(order)[places], self.seed, epoch, copies)
        by_sample = torch.argsort(places, stable=True)  # copies one after another: their picture is decoded once
        batch = self._batch(order, places[by_sample].tolist(), keys[by_sample])
        back = torch.argsort(by_sample)
        return {name: x[back] if isinstance(x, Tensor) else x for name, x in batch.items()}

    def _batch(self, order: np.ndarray, places: Sequence[int], keys: Tensor) -> dict[str, Any]:
        skipped: dict[str, str] = {}
        chosen: list[int] = []
        images = self._images(order, places, skipped, chosen)
        parts = [named(self.transform(chunk, keys[rows])) for rows, chunk in chunks(images)]
        batch = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        labels = torch.from_numpy(self.index.label[chosen])
        return {**batch, "keys": keys, "labels": labels, "skipped": skipped}

    def _images(
        self, order: np.ndarray, places: Sequence[int], skipped: dict, chosen: list[int]
    ) -> Iterator[Image.Image]:
        for place, copies in itertools.groupby(places):
            image, sample = self._first_readable(order, place, skipped)
            for _ in copies:
                chosen.append(sample)
                yield image

    def _first_readable(self, order: np.ndarray, place: int, skipped: dict[str, str]) -> tuple[Image.Image, int]:
        """The sample at a place; for an unreadable one the next of the order, whoever asks and whatever came before."""
        reasons = {}
        for step in range(MAX_UNREADABLE):
            sample = int(order[(place + step) % len(order)])
            try:
                return self.reader.image(sample), sample
            except UnreadableImage as error:
                reasons[error.name] = skipped[error.name] = error.reason
        listed = "\n".join(f"  {name}: {reason}" for name, reason in reasons.items())
        raise ValueError(f"{MAX_UNREADABLE} samples in a row are unreadable; are these shards of images?\n{listed}")


@attrs.frozen(eq=False)
class EvalBatches:
    """(start, stop) -> the uint8 batch of these samples, in stored order, without the unreadable ones."""

    index: Index
    transform: Transform
    reader: Reader = attrs.field(init=False)

    @reader.default
    def _reader(self) -> Reader:
        return Reader(self.index)

    def __getitem__(self, place: tuple[int, int]) -> dict[str, Any]:
        """Images uint8 [b, H, W, 3], labels [b], sample numbers [b], and what was skipped; images None if all were."""
        skipped: dict[str, str] = {}
        chosen: list[int] = []
        images = self._images(range(*place), skipped, chosen)
        parts = [named(self.transform(chunk, None))["images"] for _, chunk in chunks(images)]
        return {
            "images": torch.cat(parts) if parts else None,
            "labels": torch.from_numpy(self.index.label[chosen]),
            "index": torch.tensor(chosen, dtype=torch.int64),
            "skipped": skipped,
        }

    def _images(self, samples: range, skipped: dict, chosen: list[int]) -> Iterator[Image.Image]:
        for sample in samples:
            try:
                image = self.reader.image(sample)
            except UnreadableImage as error:
                skipped[error.name] = error.reason
                continue
            chosen.append(sample)
            yield image


def chunks(images: Iterator[Image.Image]) -> Iterator[tuple[slice, list[Image.Image]]]:
    """Pictures in lists of bounded size, with their rows in the batch."""
    start, chunk, pixels = 0, [], 0
    for image in images:
        chunk.append(image)
        pixels += image.width * image.height
        if len(chunk) == CHUNK_IMAGES or pixels >= CHUNK_PIXELS:
            yield slice(start, start + len(chunk)), chunk
            start, chunk, pixels = start + len(chunk), [], 0
    if chunk:
        yield slice(start, start + len(chunk)), chunk
