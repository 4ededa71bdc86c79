"""Batch normalisation over all processes, its moments as values."""

from typing import Any

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from blocks.block import Block, Params
from blocks.checks import above_0, count, is_whole
from blocks.collective import average, world
from blocks.ops.batch_norm import alone, batch_norm, wide
from blocks.tree import Flat


def is_group_size(_: Any, attribute: attrs.Attribute, value: int | None) -> None:
    """attrs validator of a number of samples that are normalised together."""
    if value is not None and not is_whole(value, 2):
        raise ValueError(f"{attribute.name} {value!r} leaves no variance; use 2 or more, or None for the whole batch")


@attrs.frozen
class BatchNorm(Block):
    """x [b, ..., C] -> the same, each channel to mean 0 and variance 1 (Ioffe & Szegedy 2015), then scaled and shifted.

    The moments are those of the whole batch over all processes, each of which must hold equally many samples; with
    `group_size` of each run of so many samples; where params also hold running_mean and running_var, these.
    They are float32 at least. Raises ValueError for one sample, groups that do not divide a process's, another C.
    """

    num_features: int = attrs.field(validator=count)
    eps: float = attrs.field(default=1e-5, validator=above_0)
    affine: bool = True
    group_size: int | None = attrs.field(default=None, validator=is_group_size)

    def init(self, key: Tensor) -> Params:
        """weight [C] of ones and bias [C] of zeros; {} where it is not affine."""
        if not self.affine:
            return {}
        ones = torch.ones(self.num_features, device=key.device, dtype=torch.float32)
        return {"weight": ones, "bias": torch.zeros_like(ones)}

    def running(self) -> dict[str, Tensor]:
        """The running moments before the first batch, [C] each."""
        ones = torch.ones(self.num_features, dtype=torch.float32)
        return {"running_mean": torch.zeros_like(ones), "running_var": ones}

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        if "running_mean" not in params:
            return self._by_batch(params, x)[0]
        leaves = {name: leaf.to(wide(x.dtype)) for name, leaf in params.items()}
        mean, var, weight, bias = map(leaves.get, ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(self._rows(x), mean, var, weight, bias, eps=self.eps).reshape(x.shape)

    def observed(self, params: Params, x: Tensor) -> tuple[Tensor, Flat]:
        """(output, {"running_mean", "running_var"} [C]), always by the batch: its moments, the variance unbiased.

        Those of groups are averaged over all groups of all processes.
        """
        y, moments = self._by_batch(params, x)
        moments = moments if self.group_size is None else average(moments)
        return y, {"running_mean": moments[0], "running_var": moments[1]}

    def _by_batch(self, params: Params, x: Tensor) -> tuple[Tensor, Tensor]:
        """(output, mean and unbiased variance [2, C]); groups lie side by side, as if they were channels."""
        rows = self._rows(x)
        size = self._size(len(x), len(rows))
        rows = rows.view(-1, size, self.num_features).transpose(0, 1).flatten(1)  # [n, G C]
        weight, bias = (self._repeated(params.get(name), rows) for name in ("weight", "bias"))
        y, moments = (batch_norm if self.group_size is None else alone)(rows, weight, bias, self.eps)
        y = y.view(size, -1, self.num_features).transpose(0, 1).reshape(x.shape)
        return y, moments.view(2, -1, self.num_features).mean(1)

    def _rows(self, x: Tensor) -> Tensor:
        """x [b, ..., C] -> [b ..., C]."""
        if x.shape[-1] != self.num_features:
            raise ValueError(f"x {list(x.shape)} is not [b, ..., {self.num_features}]; channels come last")
        return x.reshape(-1, self.num_features)

    def _size(self, samples: int, rows: int) -> int:
        """How many of a process's rows are normalised together."""
        if self.group_size is None:
            if rows * world()[1] < 2:
                raise ValueError("batch norm of one sample is zero; give it more, or params with running moments")
            return rows
        if samples % self.group_size:
            raise ValueError(f"a process's {samples} samples are no multiple of group_size {self.group_size}")
        return rows // (samples // self.group_size)

    def _repeated(self, leaf: Tensor | None, rows: Tensor) -> Tensor | None:
        """A leaf [C] for each group, [G C]."""
        return None if leaf is None else leaf.to(wide(rows.dtype)).repeat(rows.shape[1] // self.num_features)
