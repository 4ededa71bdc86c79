"""Correlations of embeddings over the batch of all processes, for losses that make dimensions independent."""

from itertools import combinations

from torch import Tensor

from blocks.collective import gather, total, world
from blocks.ops.batch_norm import batch_norm


def pairs(z: Tensor) -> list[tuple[int, int]]:
    """The places of every two views of z [V, b, E]. Raises ValueError for less than two views, or images in all."""
    if z.shape[1] * world()[1] < 2:
        raise ValueError(f"{z.shape[1]} image in all processes: correlations are of two or more; use a larger batch")
    if len(z) < 2:
        raise ValueError(f"the batch has {len(z)} view of an image, and two or more are compared; see MultiCrop")
    return list(combinations(range(len(z)), 2))


def standardised(z: Tensor) -> Tensor:
    """z [b, E] with each dimension at mean 0 and variance 1 over all processes' rows."""
    return batch_norm(z)[0]


def squared_norm(a: Tensor, b: Tensor) -> Tensor:
    """|A^T B|^2, the squares of all [E, E] products summed, A and B being all processes' a and b [b, E]: -> [].

    |A^T B|^2 = sum((A A^T) * (B B^T)), so that the smaller product does, that of E dimensions or of all samples.
    """
    if a.shape[1] < len(a) * world()[1]:
        return total(a.T @ b).square().sum()
    grams = [x @ gather(x).T for x in ((a,) if a is b else (a, b))]  # [b, W b] each
    return total((grams[0] * grams[-1]).sum())
