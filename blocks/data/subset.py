"""A part of a data set: for training on few images, and for k-NN."""

import numpy as np

from blocks.data.index.index import Index
from blocks.data.order import SUBSET
from blocks.random import bits, fold_in, key


def balanced_share(index: Index, share: float, seed: int = 0) -> Index:
    """The same share of every class, at least one image each, in stored order.

    Chosen by the seed; a smaller share of one seed is contained in a larger one.
    Raises ValueError for a share that is not above 0 and at most 1.
    """
    return index.take(_balanced(index, share, seed))


def knn_shards(train: Index, val: Index | None, share: float) -> tuple[Index, Index] | tuple[()]:
    """(who votes, who is asked) in evaluation by k-NN, or () where there are no labels for it.

    A balanced share of the training images votes on the validation images. Where the former have no labels, half of the
    latter votes on the other half. Raises ValueError where that leaves none to ask.
    """
    if val is None:
        return ()
    if train.labelled:
        return balanced_share(train, share), val
    voters = _balanced(val, 0.5, seed=0)
    asked = np.setdiff1d(np.arange(len(val)), voters)
    if not len(asked):
        raise ValueError(
            f"{len(val)} labelled image{'s' * (len(val) > 1)} for evaluation by k-NN, where half of each class votes "
            "on the other half; give more, or none"
        )
    return val.take(voters), val.take(asked)


def _balanced(index: Index, share: float, seed: int) -> np.ndarray:
    """The samples of a balanced share, int64 [n], sorted."""
    if not 0 < share <= 1:
        raise ValueError(f"share {share} is not above 0 and at most 1")
    rank = bits(fold_in(key(seed), SUBSET), (len(index),)).numpy()
    order = np.lexsort((rank, index.label))  # class by class, each by rank
    members = np.split(order, np.flatnonzero(np.diff(index.label[order])) + 1)
    chosen = [m[: max(1, round(share * len(m)))] for m in members]
    return np.sort(np.concatenate(chosen))
