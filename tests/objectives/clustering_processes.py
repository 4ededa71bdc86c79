"""One of two processes that meet the cases of test_clustering_processes."""

import torch

from blocks import tree
from blocks.collective import world
from blocks.objectives.centring import even_codes
from blocks.objectives.koleo import koleo
from blocks.ops.sinkhorn import sinkhorn
from blocks.random import key, normal
from tests.objectives import clustering_cases as cases

UNEVEN = {0: slice(0, 2), 1: slice(2, 9)}  # the samples of each process


def part(batch):
    """This process's contiguous share; the whole where it is alone."""
    rank, world_size = world()
    size = len(batch["index"]) // world_size
    return {name: value[rank * size : (rank + 1) * size] for name, value in batch.items()}


def uneven_codes(rows):
    """Codes of some of 9 samples, the last of which is not counted; scores are extreme."""
    scores, counted = 1e3 * normal(key(2), (2, 9, 5), torch.float64), torch.arange(9) < 8
    return sinkhorn(scores[:, rows], counted=counted[rows])


def one_sided_codes(rows):
    """Codes of some of 4 samples, of which none of the second half is counted."""
    return even_codes(normal(key(1), (4, 5), torch.float64)[rows], 0.3, (torch.arange(4) < 1)[rows])


def pair_apart(rows):
    """KoLeo of some of 2 images in 2 views, whose neighbours are each other."""
    return koleo(normal(key(3), (2, 2, 4), torch.float64)[:, rows])


def work(rank):
    """One process."""
    results = {name: cases.run(name, part) for name in cases.CASES}
    results["codes"] = uneven_codes(UNEVEN[rank])
    results["one-sided codes"] = one_sided_codes(slice(2 * rank, 2 * rank + 2))
    results["koleo"] = pair_apart(slice(rank, rank + 1))
    return {name: tree.flatten(value) for name, value in results.items()}
