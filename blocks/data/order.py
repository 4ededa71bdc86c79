"""The order of an epoch: a permutation that is a function of (seed, epoch), each sample once or several times."""

import numpy as np
import torch
from torch import Tensor

from blocks.random import bits, fold_in, key

ORDER, AUGMENT, MIX, COPIES, SUBSET, SOURCES = range(6)  # what a seed's folded keys are for
SHARDS = 0  # of an order's folded keys; those of the second source on, from 1 on, are for its own order


def epoch_order(num_samples: int, seed: int, epoch: int, source: int = 0) -> Tensor:
    """A uniform permutation of all samples: int64 [num_samples]; another one for each source of a mixture."""
    words = bits(_order_key(seed, epoch, source), (num_samples,))
    return torch.argsort(words, stable=True)  # stable: equal words keep their order on every machine


def windowed_order(shard: np.ndarray, seed: int, epoch: int, window: int, source: int = 0) -> Tensor:
    """A permutation that reads shards nearly one after another: the samples' shards int64 [N] -> int64 [N].

    The shards are permuted, the samples of each in stored order; then they are shuffled within consecutive windows of
    that stream. So nothing moves by `window` places or more.
    """
    own = _order_key(seed, epoch, source)
    numbers = torch.from_numpy(shard)
    rank = torch.argsort(torch.argsort(bits(fold_in(own, SHARDS), (int(shard.max()) + 1,)), stable=True))
    by_shard = torch.argsort(rank[numbers], stable=True)
    words = bits(own, (len(shard),)).long()
    windows = torch.arange(len(shard)) // window
    return by_shard[torch.argsort((windows << 32) + words, stable=True)]


def repeated_places(start: int, stop: int, batch_size: int, repeats: int) -> tuple[Tensor, Tensor]:
    """Repeated augmentation: the places in the order of start to stop of one batch, and which copies: [b], [b].

    Hoffer et al. 2020, "Augment your batch", as in DeiT: every sample of the order comes `repeats` times on end.
    Within a batch all first copies stand before all second ones: neighbours, which are mixed, are different samples,
    and at least as many processes as repeats get different ones. No number of processes changes what a batch holds.
    """
    first = start - start % batch_size
    places = torch.arange(first, first + batch_size)
    places = places[torch.argsort(places % repeats, stable=True)][start - first : stop - first]
    return places // repeats, places % repeats


def augment_keys(samples: Tensor, seed: int, epoch: int | Tensor, copies: Tensor | None = None) -> Tensor:
    """One key per sample [B] for its crops and flips in this epoch, or in epochs [B] -> [B, 2]; another for every copy.

    The first copy, 0, has the key that it has without repeats.
    """
    purpose = fold_in(key(seed), AUGMENT)
    if copies is not None:
        others = fold_in(fold_in(key(seed), COPIES), copies)
        purpose = torch.where((copies == 0)[:, None], purpose, others)
    return fold_in(fold_in(purpose, epoch), samples)


def mix_key(seed: int, step: int) -> Tensor:
    """The key of a step's mixture: [2]."""
    return fold_in(fold_in(key(seed), MIX), step)


def _order_key(seed: int, epoch: int, source: int) -> Tensor:
    own = fold_in(fold_in(key(seed), ORDER), epoch)
    return fold_in(own, source) if source else own
