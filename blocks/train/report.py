"""Loss and metrics of a step: means over micro-batches and processes."""

import torch
import torch.distributed as dist
from torch import Tensor

Row = dict[str, Tensor]


def row_of(loss: Tensor, metrics: Row) -> Row:
    """One micro-batch's values, detached: {"loss": [], ...}."""
    return {"loss": loss.detach(), **{name: value.detach() for name, value in metrics.items()}}


def total(rows: list[Row]) -> Tensor:
    """Sums over the micro-batches as one vector, in the loss's type: [M]."""
    kind = rows[0]["loss"].dtype
    return torch.stack([torch.stack([value.to(kind) for value in row.values()]) for row in rows]).sum(0)


def mean(rows: list[Row], sums: Tensor | None, count: int) -> Row:
    """The means, given sums [M] over `count` micro-batches (of all processes); each in its own type."""
    if count == 1:
        return rows[0]
    values = (total(rows) if sums is None else sums) / count
    return {name: value.to(rows[0][name].dtype) for name, value in zip(rows[0], values.unbind(), strict=True)}


def averaged(row: Row, world_size: int) -> Row:
    """The means over all processes, in one exchange; each in its own type."""
    if world_size == 1 or not row:
        return row
    sums = torch.stack([value.double() for value in row.values()])
    dist.all_reduce(sums)
    means = (sums / world_size).unbind()
    return {name: value.to(row[name].dtype) for name, value in zip(row, means, strict=True)}
