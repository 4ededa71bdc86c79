"""One batch ahead: its copy to a GPU and its normalisation run on a stream of their own, while the model computes."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

import torch
from torch import Tensor

Batch = TypeVar("Batch")
Made = dict[str, Tensor]


class Side(Protocol):
    """Where a batch is made while the one before is used."""

    def make(self, work: Callable[[Batch], Made], batch: Batch) -> Made:
        """Start work(batch) there."""

    def hand_over(self, made: Made) -> Made:
        """The batch for the model's stream, which waits until it is whole."""


class SideStream:
    """A stream of a GPU beside the current one. It never waits for the model; batches share no memory with it."""

    def __init__(self, device: torch.device):
        self.device, self.stream = device, torch.cuda.Stream(device)
        self.stream.wait_stream(torch.cuda.current_stream(device))  # what the work uses was made there, before

    def make(self, work: Callable[[Batch], Made], batch: Batch) -> Made:
        """Start work(batch) on the stream."""
        with torch.cuda.stream(self.stream):
            return work(batch)

    def hand_over(self, made: Made) -> Made:
        """The batch for the current stream."""
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(self.stream)
        for tensor in made.values():
            tensor.record_stream(current)  # its memory is not the side's again before the model is done with it
        return made


def side_stream(device: torch.device) -> SideStream | None:
    """A GPU's; a CPU has none."""
    return SideStream(device) if device.type == "cuda" else None


def one_ahead(batches: Iterable[Batch], work: Callable[[Batch], Made], side: Side | None) -> Iterator[Made]:
    """work(batch) of every batch; beside a side, begun before the one before it is given away.

    A batch is handed over before the next is begun, so the model's stream waits for its own batch alone.
    """
    if side is None:
        yield from map(work, batches)
        return
    made: Made | None = None
    for batch in batches:
        ready = None if made is None else side.hand_over(made)
        made = side.make(work, batch)
        if ready is not None:
            yield ready
    if made is not None:
        yield side.hand_over(made)
