"""Classification by nearest neighbours (Wu et al. 2018, section 3.4; Caron et al. 2021, DINO, section 3.2)."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import normalize

from blocks.checks import is_whole
from blocks.collective import maximum, total, world
from blocks.probe.features import Features, share_sizes
from blocks.probe.nearest import Nearest

TRAIN_ROWS, TEST_ROWS = 16_384, 1_024  # of a block of similarities: 64 MB


@torch.no_grad()
def knn(
    train: Features, test: Features, k: Sequence[int] = (10, 20, 100, 200), temperature: float = 0.07
) -> dict[str, float]:
    """{"knn10": top-1 accuracy by the 10 nearest, ...} of all processes' test samples among all their train samples.

    Each neighbour votes for its label with exp(cosine / temperature). Exact, in blocks of bounded memory: every train
    sample visits every process. Of equally near ones the earlier counts, of equal votes the smaller label; fewer train
    samples than k all vote. All processes must call it, each with its shares. Raises ValueError for what cannot be.
    """
    ks = numbers_of_neighbours(k, temperature)
    sizes, tested = share_sizes(train), total(torch.tensor(len(test), device=test.labels.device)).item()
    if not sum(sizes) or not tested:
        raise ValueError(f"{sum(sizes)} train and {tested} test features; k-NN wants some of both")
    _check_values(train.values, test.values)
    classes = _classes(train, test)
    queries = _unit(test.values)
    rows = [slice(start, start + TEST_ROWS) for start in range(0, len(test), TEST_ROWS)]
    near = [Nearest.none(len(queries[part]), queries) for part in rows]
    for values, labels in _visits(train, sizes):
        near = [
            found.with_block(queries[part] @ values.mT, labels, ks[-1]) for found, part in zip(near, rows, strict=True)
        ]
    hits = torch.zeros(len(ks), dtype=torch.float64, device=queries.device)
    for found, part in zip(near, rows, strict=True):
        hits += _hits(found, test.labels[part], ks, temperature, classes)
    return {f"knn{name}": share for name, share in zip(ks, (total(hits) / tested).tolist(), strict=True)}


def numbers_of_neighbours(k: Sequence[int], temperature: float) -> list[int]:
    """k, rising. Raises ValueError for what `knn` cannot use."""
    if not k or not all(is_whole(number, 1) for number in k):
        raise ValueError(f"k {tuple(k)} are not numbers of neighbours; use 1 or more, at least one of them")
    if not temperature > 0:
        raise ValueError(f"temperature {temperature} is not above 0; 0.07 is the usual one")
    return sorted(set(k))


def _unit(values: Tensor) -> Tensor:
    """Rows of unit length, in float32 at least."""
    return normalize(values.to(torch.promote_types(values.dtype, torch.float32)), dim=1)


def _visits(train: Features, sizes: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """(unit values [B, D], labels [B]) of all processes' samples, block by block, on each of them in the same order."""
    rank = world()[0]
    for source, size in enumerate(sizes):
        for start in range(0, size, TRAIN_ROWS):
            count = min(TRAIN_ROWS, size - start)
            mine = slice(start, start + count) if source == rank else slice(0)
            yield _from(source, count, _unit(train.values[mine])), _from(source, count, train.labels[mine])


def _from(source: int, count: int, rows: Tensor) -> Tensor:
    """One process's rows on all of them."""
    rank, world_size = world()
    if world_size == 1:
        return rows
    rows = rows.contiguous() if source == rank else rows.new_empty(count, *rows.shape[1:])
    dist.broadcast(rows, source)
    return rows


def _check_values(train: Tensor, test: Tensor) -> None:
    """Raises ValueError for features of two widths, and, on all processes, where a number is not finite."""
    if train.shape[1] != test.shape[1]:
        raise ValueError(f"train features are {train.shape[1]} wide, test features {test.shape[1]}; take one model's")
    broken = total((~train.isfinite()).sum() + (~test.isfinite()).sum())
    if broken:
        raise ValueError(f"{int(broken)} of the features' numbers are not finite; k-NN would vote by chance")


def _classes(*found: Features) -> int:
    """One more than the largest label that any process has. Raises ValueError, on all of them, where some have none."""
    labels = torch.cat([part.labels for part in found])
    ends = torch.stack((labels.max(), -labels.min())) if len(labels) else labels.new_zeros(2)
    largest, least = maximum(ends).tolist()
    if least > 0:
        raise ValueError(f"some features have no label (label {-least}); k-NN wants one of each")
    return largest + 1


def _hits(near: Nearest, labels: Tensor, ks: list[int], temperature: float, classes: int) -> Tensor:
    """How many are right by the first k neighbours, for each k: [K]."""
    votes = ((near.similarities - near.similarities[:, :1]) / temperature).exp()  # the nearest's is 1
    scores = votes.new_zeros(len(labels), classes)
    hits = []
    for low, high in pairwise((0, *ks)):
        scores.scatter_add_(1, near.labels[:, low:high], votes[:, low:high])
        hits.append((scores.argmax(1) == labels).sum())
    return torch.stack(hits)
