"""Top-1, top-5 and loss over a whole data set that is spread over processes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from blocks import tree
from blocks.block import Block, Params
from blocks.layers.batch_norm import BatchNorm
from blocks.train.distributed import Processes
from blocks.train.precision import cast_inputs, compute_dtype


@torch.no_grad()
def evaluate(
    model: Block,
    params: Params,
    loader: Iterable[Mapping[str, Tensor]],
    processes: Processes,
    *,
    precision: str = "float32",
) -> dict[str, float]:
    """{"top1", "top5" (from 5 classes on), "loss", "images", "unreadable"} over all processes' images.

    Each process sums over its own batches, as many as it has, and the sums meet once, at the end: unequal shares are
    fine, an empty one too. Raises ValueError for an unknown precision, when no process saw an image, when all together
    met more unreadable ones than the loader's `most_unreadable`, if it has that, and as `check_apart` does.
    """
    return evaluate_all(model, [params], loader, processes, precision=precision)[0]


@torch.no_grad()
def evaluate_all(
    model: Block,
    many: Sequence[Params],
    loader: Iterable[Mapping[str, Tensor]],
    processes: Processes,
    *,
    precision: str = "float32",
) -> list[dict[str, float]]:
    """`evaluate` for each of many params, which see the same batches, read once."""
    for params in many:
        check_apart(model, params, processes.world_size)
    dtype = compute_dtype(precision)
    many = many if dtype is None else [tree.cast(params, dtype) for params in many]
    sums = torch.zeros(len(many), 6, dtype=torch.float64, device=processes.device)
    for batch in loader:
        batch = cast_inputs({name: batch[name].to(processes.device) for name in ("images", "labels")}, dtype)
        for own, params in zip(sums, many, strict=True):
            own[:5] += _sums(model(params, batch["images"]).double(), batch["labels"])
    sums[:, 5] = len(getattr(loader, "skipped", ()))
    if processes.world_size > 1:
        dist.all_reduce(sums)
    most, unreadable = getattr(loader, "most_unreadable", math.inf), sums[:, 5].max()
    if unreadable > most:
        raise ValueError(
            f"{unreadable:.0f} images are unreadable, over all processes, and the loader bears {most} of them; mend "
            "the validation shards, or give the loader a higher max_unreadable"
        )
    return [_means(own) for own in sums]


def check_apart(model: Any, params: Params, world_size: int) -> None:
    """Raises ValueError where batch norm would wait, at every batch, for processes that may have fewer of them."""
    held = sum(name.split(".")[-1] == "running_mean" for name in tree.flatten(params))
    if world_size > 1 and _norms(model) > held:
        raise ValueError(
            f"batch norm of the {type(model).__name__} takes its moments from all {world_size} processes' batches, and "
            "they may have unequally many; evaluate params that hold running moments, as with_statistics finds them "
            "(evaluate=...), or in one process"
        )


def _norms(block: Any) -> int:
    """How many of a block's batch norms need running moments if they are not to go by the batch of all processes."""
    if isinstance(block, BatchNorm):
        return int(block.group_size is None)
    if isinstance(block, tuple):
        return sum(map(_norms, block))
    if not isinstance(block, Block):
        return 0
    parts = (getattr(block, field.name) for field in attrs.fields(type(block)))
    return len(getattr(block, "norm_names", ())) + sum(map(_norms, parts))  # a ModuleTrunk names its module's


def _sums(logits: Tensor, labels: Tensor) -> Tensor:
    """[images, top-1 hits, loss, images with 5 or more classes, top-5 hits] of logits [B, C] and labels [B]."""
    count = torch.full((), float(len(labels)), device=logits.device)
    best = logits.topk(min(5, logits.shape[1])).indices  # [B, 5]
    hits = (best == labels[:, None]).double()
    loss = F.cross_entropy(logits, labels, reduction="sum")
    top5 = (count, hits.sum()) if best.shape[1] == 5 else (torch.zeros_like(count),) * 2
    return torch.stack([value.double() for value in (count, hits[:, 0].sum(), loss, *top5)])


def _means(sums: Tensor) -> dict[str, float]:
    images, top1, loss, with_top5, top5, unreadable = sums.tolist()
    if not images:
        raise ValueError(f"no image to evaluate on ({unreadable:.0f} unreadable); look at the validation shards")
    means = {"top1": top1 / images, "loss": loss / images, "images": int(images), "unreadable": int(unreadable)}
    return means | ({"top5": top5 / with_top5} if with_top5 else {})
