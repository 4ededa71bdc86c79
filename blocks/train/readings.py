"""Metrics on their way from the device to the host, and their means over an epoch."""

import math
from collections import deque
from collections.abc import Iterator
from typing import Any

import attrs
import torch
import torch.distributed as dist
from torch import Tensor

from blocks.train.waiting import Mark, seconds_between

LAG = 8  # steps that a GPU may be ahead of what the host has read
DECISIVE = ("loss", "grad_norm")  # where one of them is not finite, the step is skipped


class Readings:
    """Each step's metrics, read `lag` steps later, so that the host never waits for the step it just started.

    With every step travels the wish to stop, from any process to all, so that all stop after the same step.
    """

    def __init__(self, device: torch.device, world_size: int, *, lag: int | None = None) -> None:
        self._device, self._world_size = device, world_size
        self._lag = lag if lag is not None else LAG if device.type == "cuda" else 0
        self._waiting: deque[tuple[int, list[str], Tensor, Any, tuple[Mark, Mark] | None]] = deque()

    def put(
        self, step: int, metrics: dict[str, Tensor], *, stop: bool, waited: tuple[Mark, Mark] | None = None
    ) -> None:
        """Send a step's metrics (0-dim tensors), this process's wish and its wait for the batch on their way."""
        wish = torch.full((), float(stop), dtype=torch.float64, device=self._device)  # filled there: a copy waits
        if self._world_size > 1:
            dist.all_reduce(wish, op=dist.ReduceOp.MAX)
        row = [value.detach().to(self._device, torch.float64) for value in metrics.values()]
        values = torch.stack([wish, *row]).to("cpu", non_blocking=True)
        done = torch.cuda.Event() if self._device.type == "cuda" else None
        if done:
            done.record()
        self._waiting.append((step, ["stop", *metrics], values, done, waited))

    def take(self, *, all: bool = False) -> Iterator[tuple[int, dict[str, float]]]:
        """(step, {"stop", metrics..., "waited": seconds}) of the steps that are `lag` back, oldest first; with `all` of
        every step.
        """
        while len(self._waiting) > (0 if all else self._lag):
            step, names, values, done, waited = self._waiting.popleft()
            if done:
                done.synchronize()
            found = dict(zip(names, values.tolist(), strict=True))
            yield step, found | ({"waited": seconds_between(*waited)} if waited else {})


@attrs.define
class Totals:
    """Sums over the epoch so far; plain numbers, so that a checkpoint can hold them."""

    steps: int = 0  # applied ones, not skipped
    images: int = 0
    seconds: float = 0.0
    waited: float = 0.0  # of these seconds, for batches
    lr: float | None = None  # the last step's
    sums: dict[str, float] = attrs.field(factory=dict)

    def add(self, values: dict[str, float], images: int) -> None:
        """One more step."""
        self.images += images
        self.lr = values.get("lr")
        self.waited += values.get("waited", 0.0)
        if all(math.isfinite(values.get(name, 0.0)) for name in DECISIVE):
            self.steps += 1
            for name, value in values.items():
                self.sums[name] = self.sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        """Mean over the applied steps, {} if there were none."""
        return {name: value / self.steps for name, value in self.sums.items()} if self.steps else {}
