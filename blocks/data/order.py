"""The order of an epoch: a permutation that is a function of (seed, epoch), each sample once or several times."""

import torch
from torch import Tensor

from blocks.random import bits, fold_in, key

ORDER, AUGMENT, MIX, COPIES, SUBSET = range(5)  # what a seed's folded keys are for


def epoch_order(num_samples: int, seed: int, epoch: int) -> Tensor:
    """A uniform permutation of all samples: int64 [num_samples]."""
    words = bits(fold_in(fold_in(key(seed), ORDER), epoch), (num_samples,))
    return torch.argsort(words, stable=True)  # stable: equal words keep their order on every machine


def repeated_places(start: int, stop: int, batch_size: int, repeats: int) -> tuple[Tensor, Tensor]:
    """Repeated augmentation: the places in the epoch's order of start to stop of one batch, and which copies: [b], [b].

    Hoffer et al. 2020, "Augment your batch", as in DeiT: every sample of the order comes `repeats` times on end.
    Within a batch all first copies stand before all second ones: neighbours, which are mixed, are different samples,
    and at least as many processes as repeats get different ones. No number of processes changes what a batch holds.
    """
    first = start - start % batch_size
    places = torch.arange(first, first + batch_size)
    places = places[torch.argsort(places % repeats, stable=True)][start - first : stop - first]
    return places // repeats, places % repeats


def augment_keys(samples: Tensor, seed: int, epoch: int, copies: Tensor | None = None) -> Tensor:
    """One key per sample [B] for its crops and flips in this epoch -> [B, 2]; another for every copy of it.

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
