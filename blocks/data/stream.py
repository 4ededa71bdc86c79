"""The endless stream of samples: which one stands at a place, whoever asks, and which places a process gets."""

import functools
import zlib
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from blocks.data.index.contents import checksums, contents
from blocks.data.index.index import Index
from blocks.data.order import epoch_order, repeated_places, windowed_order
from blocks.data.sources import Sources, source_places

KEPT = 2  # orders of a source: a batch may hold the end of one epoch and the start of the next


@attrs.frozen(eq=False)
class Stream:
    """Epoch after epoch, each sample once in each: place n is the (n mod N)th of the order of data epoch n // N.

    A function of the index, the seed and the window alone. Without a window the order is a uniform permutation, with
    one that of `windowed_order`. Of a mixture each source has its own epochs.
    """

    index: Index
    seed: int
    window: int | None = None
    _orders: dict[tuple[int, int], np.ndarray] = attrs.field(init=False, factory=dict, repr=False)

    def __getitem__(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The samples at places [b], and their epochs: int64 [b] each."""
        return self.after(places, 0)

    def after(self, places: np.ndarray, later: int) -> tuple[np.ndarray, np.ndarray]:
        """What stands `later` places on in the same source's order of the same epoch, from its end on at its start."""
        sizes, source, own = self._sources(places)
        epoch, place = np.divmod(own, sizes[source])
        place = (place + later) % sizes[source]
        first = np.cumsum(sizes) - sizes
        samples = np.empty_like(places)
        for one, number in sorted(set(zip(source.tolist(), epoch.tolist(), strict=True))):
            rows = (source == one) & (epoch == number)
            samples[rows] = (
                first[one] + self._order(one, number, slice(first[one], first[one] + sizes[one]))[place[rows]]
            )
        return samples, epoch

    def _sources(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sizes of the sources, and of each place its source and its place there."""
        if isinstance(self.index, Sources):
            return np.array(self.index.sizes), *source_places(places, self.index.quotas, self.seed)
        return np.array([len(self.index)]), np.zeros_like(places), places

    def _order(self, source: int, epoch: int, part: slice) -> np.ndarray:
        if (source, epoch) not in self._orders:
            old = [known for known in self._orders if known[0] == source]
            for known in old[: len(old) - KEPT + 1]:
                del self._orders[known]
            self._orders[source, epoch] = self._made(source, epoch, part)
        return self._orders[source, epoch]

    def _made(self, source: int, epoch: int, part: slice) -> np.ndarray:
        if self.window is None:
            order = epoch_order(part.stop - part.start, self.seed, epoch, source)
        else:
            order = windowed_order(self.index.shard[part], self.seed, epoch, self.window, source)
        return order.int().numpy()  # half the memory, in every worker

    @functools.cached_property
    def _contents(self) -> str:
        return contents(self.index)

    def facts(self) -> dict[str, Any]:
        """What the order and the samples follow from, to compare two runs: numbers, lists of them and digests.

        Nothing of it says where the shards lie: they may be moved.
        """
        window = None if self.window is None else int(self.window)
        facts: dict[str, Any] = {
            "num_samples": len(self.index),
            "data_seed": int(self.seed),
            "shuffle_window": window,
        }
        facts["samples"] = f"{len(self.index)} (sizes and labels {self._contents})"
        if known := checksums(self.index):
            facts["checksums"] = f"those of {len(self.index.shards)} shards ({known})"
        if self.index.classes:
            names = "\0".join(self.index.classes).encode("utf-8", "surrogatepass")
            facts["classes"] = f"{len(self.index.classes)} (names {zlib.crc32(names):08x})"
        if self.window is not None:  # the order follows from the boundaries of shards
            counts = np.bincount(self.index.shard)
            facts["shards"] = f"{len(counts)} (boundaries {zlib.crc32(counts.tobytes()):08x})"
        if isinstance(self.index, Sources):
            facts["sources"] = [list(pair) for pair in zip(self.index.sizes, self.index.quotas, strict=True)]
        return facts


@attrs.frozen
class Share:
    """One process's part of every step's batch, place by place of the stream, each of them `repeats` times."""

    batch_size: int
    rank: int = 0
    world_size: int = 1
    repeats: int = 1

    def places(self, step: int) -> tuple[Tensor, Tensor]:
        """(places of the stream, which copies of them): int64 [b] each, of a run's step."""
        start, stop = (step * self.batch_size + place for place in self._ends())
        return repeated_places(start, stop, self.batch_size, self.repeats)

    def index(self) -> Tensor:
        """The places in the batch of all processes: int64 [b]."""
        return torch.arange(*self._ends())

    def _ends(self) -> tuple[int, int]:
        share = self.batch_size // self.world_size
        return self.rank * share, (self.rank + 1) * share
