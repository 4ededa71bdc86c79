"""Several data sets by weight: one index of all their samples, and which source a place of the stream belongs to."""

import functools
from collections.abc import Iterable, Sequence
from typing import cast

import attrs
import numpy as np
import torch

from blocks.data.index.classes import common_classes
from blocks.data.index.index import Index
from blocks.data.order import SOURCES
from blocks.random import bits, fold_in, key

PERIOD = 1000  # places of the stream in which every source has exactly its share


@attrs.frozen(eq=False, repr=False, kw_only=True)
class Sources(Index):
    """The samples of several indices, one after another: `sizes` samples each, and `quotas` of them in 1,000 places."""

    sizes: tuple[int, ...]
    quotas: tuple[int, ...]

    def __repr__(self) -> str:
        parts = ", ".join(
            f"{quota / PERIOD:.1%} of {size}" for size, quota in zip(self.sizes, self.quotas, strict=True)
        )
        return f"Sources({len(self)} samples in {len(self.shards)} shards: {parts})"

    def take(self, samples: np.ndarray) -> "Sources":
        """A mixture of these samples alone, by the same weights; sources stay one after another.

        Raises ValueError where they do not, where a source loses all of its samples, or as `Index.take`.
        """
        taken = cast(Sources, super().take(samples))
        source = np.searchsorted(np.cumsum(self.sizes), samples, side="right")
        sizes = np.bincount(source, minlength=len(self.sizes)).tolist()
        if (np.diff(source) < 0).any() or not all(sizes):
            raise ValueError(
                f"these samples are {sizes} of the sources, which must keep their order and a sample each; "
                "take of each index first, then mix_sources"
            )
        return attrs.evolve(taken, sizes=tuple(sizes))


def mix_sources(sources: Iterable[tuple[Index, float]]) -> Sources:
    """Indices with their weights as one: mix_sources([(photos, 0.7), (drawings, 0.3)]); it trains as an index does.

    In every 1,000 places of the stream each source has its share of them (by largest remainder), placed by the seed,
    and goes through its own epochs: each of its samples once in each. `len` is the sum. Where one has no labels the
    mixture has none.
    Raises ValueError for class names that differ and for weights that give a source nothing.
    """
    pairs = list(sources)
    if not pairs or any(isinstance(index, Sources) for index, _ in pairs):
        raise ValueError(f"{len(pairs)} sources: give one index or more, and the indices of a mixture one by one")
    indices, weights = zip(*pairs, strict=True)
    labelled = all(index.labelled for index in indices)
    if not labelled:
        indices = tuple(index.without_labels() for index in indices)
    first = np.cumsum([0, *(len(index.shards) for index in indices)])
    return Sources(
        shards=tuple(shard for index in indices for shard in index.shards),
        shard=np.concatenate([index.shard + start for index, start in zip(indices, first, strict=False)]),
        **{name: np.concatenate([getattr(index, name) for index in indices]) for name in ("offset", "size", "label")},
        classes=common_classes((index.shards[0].name, index.classes) for index in indices),
        labelled=labelled,
        sizes=tuple(map(len, indices)),
        quotas=_quotas(weights),
    )


def source_places(places: np.ndarray, quotas: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which source each place [b] of the stream belongs to, and which place of that source's own stream it is."""
    period, within = np.divmod(places, PERIOD)
    source, own = np.empty_like(places), np.empty_like(places)
    for number in np.unique(period):
        rows = period == number
        sources, ranks = _period(quotas, seed, int(number))
        source[rows], own[rows] = sources[within[rows]], ranks[within[rows]]
    return source, own + period * np.array(quotas)[source]


@functools.lru_cache(maxsize=4)
def _period(quotas: tuple[int, ...], seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The sources of 1,000 places, shuffled, and how many of the same source stand before each."""
    sources = np.repeat(np.arange(len(quotas)), quotas)
    words = bits(fold_in(fold_in(key(seed), SOURCES), number), (PERIOD,))
    sources = sources[torch.argsort(words, stable=True).numpy()]
    ranks = np.empty_like(sources)
    for source, quota in enumerate(quotas):
        ranks[sources == source] = np.arange(quota)
    return sources, ranks


def _quotas(weights: Sequence[float]) -> tuple[int, ...]:
    """Shares of 1,000 by largest remainder."""
    if not all(0 < weight < np.inf for weight in weights):
        raise ValueError(f"weights {list(weights)} are not all finite and above 0; leave out a source nobody wants")
    exact = PERIOD * np.array(weights, dtype=np.float64) / sum(weights)
    quotas = np.floor(exact).astype(np.int64)
    quotas[np.argsort(quotas - exact, kind="stable")[: PERIOD - quotas.sum()]] += 1
    if not quotas.all():
        raise ValueError(
            f"weights {list(weights)} give source {int(quotas.argmin())} none of {PERIOD} places; raise it"
        )
    return tuple(quotas.tolist())
