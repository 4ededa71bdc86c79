"""The features of a whole data set that is spread over processes."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import attrs
import torch
from torch import Tensor

from blocks import tree
from blocks.block import Params
from blocks.collective import gather, maximum, world

UNKNOWN = -1  # the label of an image without one


class Embedding(Protocol):
    """A model that gives features, as `blocks.trunks.model.Model` does."""

    def features(self, params: Params, images: Tensor) -> Tensor:
        """images [B, C, H, W] -> [B, D]."""


class Place(Protocol):
    """Where this process computes: `blocks.train.distributed.Processes`."""

    @property
    def device(self) -> torch.device:
        """Its device."""


@attrs.frozen(eq=False)
class Features:
    """values [n, D], labels int64 [n], UNKNOWN where there are none, and index int64 [n], the samples' numbers in the
    data set.
    """

    values: Tensor
    labels: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@torch.no_grad()
def features(
    model: Embedding,
    params: Params,
    loader: Iterable[Mapping[str, Tensor]],
    processes: Place,
    *,
    dtype: torch.dtype | None = None,
) -> Features:
    """The features of this process's share, in its order, on its device; computed and held in dtype, by default the
    params' own, without any float32.

    All processes must call it; a share may be empty. Raises ValueError where no process has an image, and as
    `check_apart` does, FloatingPointError where a feature is not finite.
    """
    check_apart(model, params)
    params = params if dtype is None else tree.cast(params, dtype)
    kind = next((t.dtype for t in tree.leaves(params) if t.is_floating_point()), torch.float32)
    parts = [_part(model, params, batch, processes.device, kind) for batch in loader]
    width = _agreed_width(parts, processes.device)
    nothing = torch.zeros(0, dtype=torch.int64, device=processes.device)
    none = Features(torch.zeros(0, width, dtype=kind, device=processes.device), nothing, nothing)
    columns = [(part.values, part.labels, part.index) for part in (none, *parts)]
    return Features(*map(torch.cat, zip(*columns, strict=True)))


def check_apart(model: Any, params: Params) -> None:
    """Raises ValueError where a module trunk's batch norm would wait, at every batch, for processes that may have fewer
    of them.
    """
    trunk = getattr(model, "trunk", None)
    if world()[1] > 1 and set(getattr(trunk, "statistics", ())) - tree.flatten(params).keys():
        raise ValueError(
            f"batch norm of the {type(trunk).__name__} takes its moments from all {world()[1]} processes' batches, and "
            "they may have unequally many; give params that hold running moments, as with_statistics finds them, or "
            "use one process"
        )


def _part(
    model: Embedding, params: Params, batch: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype
) -> Features:
    index = batch["index"].to(device)
    labels = batch["labels"].to(device) if "labels" in batch else torch.full_like(index, UNKNOWN)
    return Features(model.features(params, batch["images"].to(device, dtype)), labels, index)


def _agreed_width(parts: list[Features], device: torch.device) -> int:
    """D, which a process without images learns from the others."""
    broken = any(not part.values.isfinite().all() for part in parts)
    width, broken = maximum(torch.tensor([parts[0].values.shape[1] if parts else 0, broken], device=device)).tolist()
    if not width:
        raise ValueError("no image to take features of; look at the shards")
    if broken:
        raise FloatingPointError("some features are not finite; are the weights whole, and is dtype wide enough?")
    return width


def gathered(found: Features) -> Features:
    """All processes' features on each of them, in stored order."""
    counts = share_sizes(found)
    columns = [_joined(column, counts) for column in (found.values, found.labels, found.index)]
    order = columns[2].argsort(stable=True)
    return Features(*(column[order] for column in columns))


def share_sizes(found: Features) -> list[int]:
    """How many samples each process has."""
    return gather(torch.tensor([len(found)], device=found.labels.device)).tolist()


def _joined(share: Tensor, counts: list[int]) -> Tensor:
    """Shares of unequal length, one after another; on their way they are padded to one length."""
    if len(counts) == 1:
        return share
    padded = share.new_zeros(max(counts), *share.shape[1:])
    padded[: len(share)] = share
    return torch.cat([part[:count] for part, count in zip(gather(padded).chunk(len(counts)), counts, strict=True)])
