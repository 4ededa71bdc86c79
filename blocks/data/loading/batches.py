"""Batches by number, made in a worker: a function of the index, the seed and the number of the step."""

from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from blocks.data.index.index import Index
from blocks.data.index.read import Reader
from blocks.data.loading.slots import Filling, PictureReader, Slot, Transform
from blocks.data.order import augment_keys
from blocks.data.stream import Share, Stream
from blocks.data.undecoded import in_order

AHEAD = 4  # batches of this worker that its reader is told of, at least
SPREAD = 12  # and of the rest of a shuffle window: a sample of every shard in it suffices


@attrs.frozen(eq=False)
class TrainBatches:
    """step -> the uint8 batch of this process's share.

    Before a batch is made the reader is told which samples this worker needs next: those of AHEAD batches, and with a
    shuffle window of some more, evenly spread until the whole stream, all processes' together, is a window further.
    So the shards of the next window are on their way while this one is read, and no others.
    """

    stream: Stream
    share: Share
    transform: Transform
    reader: PictureReader = attrs.field()

    @reader.default
    def _reader(self) -> Reader:
        return Reader(self.stream.index)

    def __getitem__(self, step: int) -> dict[str, Any]:
        """Images uint8 [b, H, W, 3] (or crops), their keys [b, 2], labels [b] if there are any, samples [b], index [b],
        the places in the batch of all processes, and the name and reason of each unreadable one.
        """
        self.reader.ahead(self.coming(step))
        places, copies = self.share.places(step)
        samples, epochs = self.stream[places.numpy()]
        repeated = self.share.repeats > 1
        keys = augment_keys(
            torch.from_numpy(samples), self.stream.seed, torch.from_numpy(epochs), copies if repeated else None
        )
        by_place = torch.argsort(places, stable=True)  # copies one after another: their picture is decoded once
        slots = {place: Slot(place) for place in places.tolist()}
        filling = Filling(self.reader, self.transform, self._candidate)
        made, chosen = filling((slots[place] for place in places[by_place].tolist()), keys[by_place])
        rows: dict[str, Tensor] = {**made, **_labels(self.stream.index, chosen), "samples": torch.tensor(chosen)}
        if repeated:
            rows = in_order(rows, torch.argsort(by_place))
        return {**rows, "keys": keys, "index": self.share.index(), "skipped": filling.skipped}

    def coming(self, step: int) -> np.ndarray:
        """The samples of this worker's batches from a step on, int64 [n], in the order of their need."""
        every = _workers()
        samples = min(self.stream.window or 0, len(self.stream.index))  # or more than the two kept orders are asked for
        window = samples * self.share.repeats
        last = window // (self.share.batch_size * every)
        spread = np.unique(np.linspace(AHEAD, max(AHEAD, last), SPREAD, endpoint=False, dtype=np.int64))
        batches = [*range(AHEAD), *spread[spread < last].tolist()]
        places = torch.cat([self.share.places(step + every * batch)[0] for batch in batches])
        return self.stream[places.numpy()][0]

    def _candidate(self, place: int, tries: int) -> int:
        """For an unreadable sample the next of the order, whoever asks and whatever came before."""
        return int(self.stream.after(np.array([place]), tries)[0][0])


@attrs.frozen(eq=False)
class EvalBatches:
    """number -> the uint8 batch of these samples, in stored order, without the unreadable ones."""

    index: Index
    transform: Transform
    places: list[tuple[int, int]]  # (first, last) of every batch
    reader: PictureReader = attrs.field()

    @reader.default
    def _reader(self) -> Reader:
        return Reader(self.index)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Images uint8 [b, H, W, 3], labels [b] if there are any, sample numbers [b], and what was skipped; images None
        if all were.
        """
        own = self.places[number :: _workers()][:AHEAD]
        self.reader.ahead(np.concatenate([np.arange(*place) for place in own]))
        filling = Filling(self.reader, self.transform, _itself)
        made, chosen = filling(map(Slot, range(*self.places[number])), None)
        if made and "images" not in made:
            raise ValueError(f'the transform gives {", ".join(made)}; wanted "images", evaluation has one view')
        return {
            "images": made.get("images"),
            **_labels(self.index, chosen),
            "index": torch.tensor(chosen, dtype=torch.int64),
            "skipped": filling.skipped,
        }


def _labels(index: Index, samples: list[int]) -> dict[str, Tensor]:
    """{"labels": int64 [b]}, or {} where there are none."""
    return {"labels": torch.from_numpy(index.label[samples])} if index.labelled else {}


def _itself(place: int, tries: int) -> int | None:
    """In evaluation nothing stands in for an unreadable sample."""
    return place if not tries else None


def _workers() -> int:
    """A worker gets every so manieth batch."""
    info = get_worker_info()
    return info.num_workers if info else 1
