"""A part of a data set: for training on few images."""

import numpy as np

from blocks.data.index.index import Index
from blocks.data.order import SUBSET
from blocks.random import bits, fold_in, key


def balanced_share(index: Index, share: float, seed: int = 0) -> Index:
    """The same share of every class, at least one image each, in stored order.

    Chosen by the seed; a smaller share of one seed is contained in a larger one.
    Raises ValueError for a share that is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share {share} is not above 0 and at most 1")
    rank = bits(fold_in(key(seed), SUBSET), (len(index),)).numpy()
    order = np.lexsort((rank, index.label))  # class by class, each by rank
    members = np.split(order, np.flatnonzero(np.diff(index.label[order])) + 1)
    chosen = [m[: max(1, round(share * len(m)))] for m in members]
    return index.take(np.sort(np.concatenate(chosen)))
