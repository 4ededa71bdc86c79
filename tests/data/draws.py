"""Many keys, and tests of what is drawn from them."""

import math

import torch

from blocks.random import fold_in, key


def keys(count, seed=0):
    return fold_in(key(seed), torch.arange(count))


def expected_often(counts, wanted, total=None):
    """Counts [n] against the wanted ones, by chi-square at 0.01 %; or one count of `total` with a probability."""
    if total is not None:
        error = math.sqrt(total * wanted * (1 - wanted))
        return abs(float(counts) - total * wanted) < 4 * error
    degrees = len(wanted) - 1
    limit = degrees * (1 - 2 / (9 * degrees) + 3.72 * math.sqrt(2 / (9 * degrees))) ** 3  # Wilson & Hilferty 1931
    return float(((counts - wanted) ** 2 / wanted).sum()) < limit


def follows(sample, below):
    """A sample [n] against a distribution function, by Kolmogorov and Smirnov at 0.1 %."""
    share = below(sample.double().sort().values)
    steps = torch.arange(len(share) + 1).double() / len(share)
    distance = torch.maximum(steps[1:] - share, share - steps[:-1]).max()
    return float(distance) * math.sqrt(len(share)) < 1.95


def uniform_below(low, high):
    return lambda x: (x - low) / (high - low)
