"""How long the device waits for a batch; on a GPU by its own clock, for the host runs ahead of it."""

import time
from typing import Any

import torch

Mark = Any  # a number of seconds, or on a GPU an event


def mark(device: torch.device) -> Mark:
    """The moment at which the device has done all that was begun so far."""
    if device.type != "cuda":
        return time.monotonic()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def seconds_between(begin: Mark, end: Mark) -> float:
    """Seconds from one mark to the next; on a GPU both must have come to pass."""
    return end - begin if isinstance(end, float) else begin.elapsed_time(end) / 1e3
