"""Training batches: an endless stream whose only cursor is the number of the step."""

import itertools
from collections.abc import Iterator
from typing import Any, Protocol, cast
from weakref import WeakSet

import attrs
from torch import Tensor

from blocks.checks import is_whole
from blocks.data.canvas import Canvas
from blocks.data.erasing import RandomErasing
from blocks.data.loading.batches import TrainBatches
from blocks.data.loading.cache_room import check_cache
from blocks.data.loading.kept import Cut
from blocks.data.loading.last_pass import LastPass
from blocks.data.loading.loader import Loader
from blocks.data.loading.made import Checked, called, checked
from blocks.data.loading.prefetch import one_ahead, side_stream
from blocks.data.loading.workers import from_workers
from blocks.data.mixing import Mixing
from blocks.data.stream import Share, Stream
from blocks.data.undecoded import canvases
from blocks.data.views import Pictures, pictures_of
from blocks.random import key


class Finishing(Protocol):
    """A transform with home="device": the workers cut to one size, the rest is done for a whole batch on the device."""

    home: str

    def finish(self, images: Tensor, keys: Tensor) -> Tensor | Pictures:
        """uint8 [B, H, W, 3] on any device, keys [B, 2] on the CPU -> uint8 [B, *img_size, 3], or crops of them."""


@attrs.define(eq=False)
class TrainLoader(Loader):
    """Batches of a shuffled index, or of several (`mix_sources`); order, crops and flips are functions of (seed, epoch,
    sample) alone.

    The order is endless: a data epoch shows every sample once, and a batch may hold the end of one and the start of
    the next. `steps_per_epoch`, for schedules and logs, counts whole batches. The whole epoch is permuted; with a
    `shuffle_window` of W samples the shards are, and samples within windows of W, so that shards are read nearly one
    after another: for remote shards and spinning disks. Of a mixture each source has windows of its own. With `repeats`
    each sample comes that many times in a batch, otherwise augmented, and a data epoch lasts as many times longer.
    An unreadable image is replaced by the next of the epoch's order; ten in a row are an error.
    `batch_size` is that of all processes. A transform with home="device" finishes there; `erase` and `mix` follow the
    normalisation. Crops (of `MultiCrop`) are erased and mixed view by view, each view by draws of its own and always
    with the same partner, and their labels stay. Raises ValueError for sizes that do not fit.
    """

    seed: int = 0
    erase: RandomErasing | None = None
    mix: Mixing | None = None
    repeats: int = 1
    shuffle_window: int | None = None
    _batches: TrainBatches = attrs.field(init=False, repr=False)
    _last: LastPass = attrs.field(init=False, repr=False)
    _streams: WeakSet = attrs.field(init=False, factory=WeakSet, repr=False)  # an abandoned one ends with its last ref

    @_batches.default
    def _make_batches(self) -> TrainBatches:
        stream = Stream(self.index, self.seed, self.shuffle_window)
        share = Share(self.batch_size, self.rank, self.world_size, self.repeats)
        return TrainBatches(stream, share, Checked(self.transform))

    @_last.default
    def _last_pass(self) -> LastPass:
        return LastPass(self._normalize, self.erase, self.mix, self.seed)

    def __attrs_post_init__(self) -> None:
        _check_sizes(len(self.index), self.batch_size, self.world_size)
        key(self.seed)  # refuses one out of range
        if not is_whole(self.repeats, 1) or self.repeats > self.batch_size:
            raise ValueError(f"repeats {self.repeats} is not a whole number from 1 to the batch_size {self.batch_size}")
        if self.shuffle_window is not None and not is_whole(self.shuffle_window, 1):
            raise ValueError(
                f"shuffle_window {self.shuffle_window} is not a number of samples; None shuffles all of them"
            )
        if self.decoded and getattr(self.transform, "decode", "workers") == "device":
            raise ValueError(f"decoded {self.decoded!r} leaves decode='device' nothing to decode; use decode='workers'")
        if self.decoded is None:  # else they are read once, in stored order
            check_cache(self.index, self.shuffle_window)
        if self.mix is not None:
            _check_mixing(self.mix, self.num_classes, self.batch_size, self.world_size)
        self._check_decoded()

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of all processes in an epoch."""
        return len(self.index) // self.batch_size

    @property
    def facts(self) -> dict[str, Any]:
        """What the sequence of batches follows from besides the sizes, for a run that is to go on."""
        return {**self._batches.stream.facts(), "repeats": int(self.repeats)}

    def batches(self, start_step: int = 0) -> Iterator[dict[str, Tensor]]:
        """Batches from a step on, without end, made ahead over the ends of epochs too.

        {"images": float32 [b, 3, H, W] on the device, "labels": int64 [b], or float32 [b, C] when mixed, "index":
        int64 [b], the place in the global batch}. Where the transform makes crops there are "crops.0", "crops.1" ...:
        float32 [b, V, 3, H, W] in place of "images", and labels int64. Without labels there are no "labels". Leaving it
        (or `close`) stops its workers.
        """
        if start_step < 0:
            raise ValueError(f"start_step {start_step} is before the first step, 0")
        stream = self._stream(start_step)
        self._streams.add(stream)
        return stream

    def _stream(self, start_step: int) -> Iterator[dict[str, Tensor]]:
        workers = self._workers(self._batches, itertools.count(start_step))
        made = zip(itertools.count(start_step), from_workers(workers), strict=False)
        return one_ahead(made, self._on_device, side_stream(self.device))

    def _on_device(self, made: tuple[int, dict[str, Any]]) -> dict[str, Tensor]:
        """The batch of a step as the model gets it."""
        step, batch = made
        self._note(batch["skipped"])
        labels, index = batch.get("labels"), batch["index"]
        labels = None if labels is None else labels.to(self.device, non_blocking=True)
        pictures, labels = self._last(self._bytes(batch), labels, batch["keys"], step, index)
        known = {} if labels is None else {"labels": labels}
        return {**pictures, **known, "index": index.to(self.device, non_blocking=True)}

    def _bytes(self, batch: dict[str, Tensor]) -> Pictures:
        """The worker's pictures, or what the transform finishes of them on the device."""
        if getattr(self.transform, "home", "workers") == "device":
            made = cast(Finishing, self.transform).finish(self._canvases(batch), batch["keys"])
            return checked(made, len(batch["keys"]), f"{called(self.transform)}.finish")
        return pictures_of(batch)

    def _canvases(self, batch: dict[str, Tensor]) -> Tensor:
        """What the transform finishes: uint8 [b, H, W, 3] on the device."""
        if "jpegs" not in batch:
            return self._gathered(batch["images"]).to(self.device, non_blocking=True)
        index, samples = self._batches.stream.index, batch["samples"]
        return canvases(batch, cast(Canvas, self._cut()), self.device, lambda row: index.name(int(samples[row])))

    def _cut(self) -> Cut | None:
        return getattr(self.transform, "cut", None) if getattr(self.transform, "home", "workers") == "device" else None

    def close(self) -> None:
        """Stop the workers of all streams."""
        for stream in list(self._streams):
            stream.close()


def _check_sizes(samples: int, batch_size: int, world_size: int) -> None:
    if batch_size % world_size:
        near = max(1, round(batch_size / world_size)) * world_size
        raise ValueError(f"batch_size {batch_size} does not split over {world_size} processes; {near} does")
    if batch_size > samples:
        raise ValueError(f"batch_size {batch_size} is larger than the {samples} samples; use at most {samples}")


def _check_mixing(mix: Mixing, num_classes: int, batch_size: int, world_size: int) -> None:
    if mix.num_classes != num_classes:
        raise ValueError(f"mix has num_classes {mix.num_classes}, the loader {num_classes}; they must be equal")
    share = batch_size // world_size
    if world_size > 1 and share % 2:
        raise ValueError(
            f"{share} images a process (batch_size {batch_size} over {world_size}) are not whole pairs to mix; "
            f"batch_size {(share + 1) * world_size} gives {share + 1}"
        )
