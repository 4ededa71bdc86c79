"""Which images lie nearest: to each other, and to prototypes."""

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from blocks.probe.nearest import largest


@attrs.frozen(eq=False)
class Examples:
    """Prototypes int64 [p], the share of the images nearest to each, [p], and each one's k nearest images: their places
    int64 [p, k] and cosines [p, k], falling.
    """

    prototypes: Tensor
    shares: Tensor
    places: Tensor
    similarities: Tensor


def nearest(queries: Tensor, features: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The most similar features [n, D] of each query [Q, D]: cosines [Q, k], falling, and places int64 [Q, k].

    k is `count`, or n if that is less; of equally similar ones the earlier comes first.
    """
    return largest(_cosines(queries, features), _counted(count))


def neighbours(features: Tensor, which: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The most similar others of the samples `which`, int64 [Q], among features [n, D]: as `nearest` gives them."""
    found = _cosines(features[which], features)
    found.scatter_(1, which[:, None], -torch.inf)
    return largest(found, min(_counted(count), len(features) - 1))


def prototype_examples(prototypes: Tensor, embeddings: Tensor, count: int, most: int = 8) -> Examples:
    """Of prototypes [K, D] the `most` used, falling, each with the `count` images whose embeddings [n, D] are nearest.

    A prototype is used by the images of which it is the nearest; those that none uses come last, if at all.
    """
    uses = _cosines(embeddings, prototypes).argmax(1).bincount(minlength=len(prototypes))
    chosen = uses.sort(descending=True, stable=True).indices[: _counted(most)]
    similarities, places = nearest(prototypes[chosen], embeddings, count)
    return Examples(chosen, uses[chosen] / len(embeddings), places, similarities)


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T


def _counted(count: int) -> int:
    if count < 1:
        raise ValueError(f"{count} is not a number of things to find; use 1 or more")
    return count
