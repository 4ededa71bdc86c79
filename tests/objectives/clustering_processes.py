"""One of two processes that meet the cases of test_clustering_processes."""

import torch

from blocks import tree
from blocks.collective import world
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


def work(rank):
    """One process."""
    results = {name: cases.run(name, part) for name in cases.CASES}
    results["codes"] = uneven_codes(UNEVEN[rank])
    return {name: tree.flatten(value) for name, value in results.items()}
