"""The order of an epoch: a permutation that is a function of (seed, epoch)."""

import torch
from torch import Tensor

from blocks.random import bits, fold_in, key

ORDER, AUGMENT = 0, 1  # what a seed's folded keys are for


def epoch_order(num_samples: int, seed: int, epoch: int) -> Tensor:
    """A uniform permutation of all samples: int64 [num_samples]."""
    words = bits(fold_in(fold_in(key(seed), ORDER), epoch), (num_samples,))
    return torch.argsort(words, stable=True)  # stable: equal words keep their order on every machine


def augment_keys(samples: Tensor, seed: int, epoch: int) -> Tensor:
    """One key per sample [B] for its crops and flips in this epoch -> [B, 2]."""
    return fold_in(fold_in(fold_in(key(seed), AUGMENT), epoch), samples)
