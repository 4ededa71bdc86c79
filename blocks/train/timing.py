"""How long a step takes, from a few of them; on a CPU of fewer images where a whole batch would take too long."""

import time
from collections.abc import Callable
from statistics import median

import attrs
import torch

from blocks.train.batch_gradient import Batch
from blocks.train.state import State

TIMED = 3  # steps
ENOUGH_S = 10.0  # after so long no further step begins
FLOPS_A_STEP = 2e10  # that one CPU core gets done in about a second: more is measured on fewer images
FEWEST = 2  # images, that a batch norm has something to do


@attrs.frozen
class Timing:
    """Seconds of a step of `images` of this process's `share` of the batch, the median of `steps` of them."""

    seconds: float
    images: int
    share: int
    steps: int
    peak: int | None  # bytes on a GPU

    @property
    def whole(self) -> float:
        """Seconds of a step of the whole share, in proportion to the images: the optimizer's part is overrated."""
        return self.seconds * self.share / self.images

    @property
    def how(self) -> str:
        """How it was found out, in words."""
        of = f"{self.images} images" if self.images == self.share else f"{self.images} of the {self.share} images"
        if self.images == self.share:
            return f"measured: {self.steps} steps of {of} of a process"
        times = f"{self.seconds:.3g} s each, times {self.share / self.images:g}"
        return f"measured: {self.steps} steps of {of} of a process, {times}: too long rather than too short"


def timed(
    step: Callable[[State, Batch], tuple[State, object]], state: State, batch: Batch, images: int, warm: int = 1
) -> tuple[State, Timing]:
    """(state, timing) after a few steps with the first `images` of this process's share of a batch.

    The first `warm` steps do not count. The state may be reused, as the step does. Where the objective refuses so few
    images, twice as many are taken.
    """
    share = len(next(iter(batch.values())))
    few = {name: value[:images] for name, value in batch.items()}
    device = state.step.device
    try:
        seconds, state = _seconds(step, state, few, device, warm)
    except ValueError:
        if images >= share:
            raise
        return timed(step, state, batch, min(share, 2 * images), warm)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return state, Timing(median(seconds), images, share, len(seconds), peak)


def affordable(share: int, flops: float, device: torch.device, parts: int = 1) -> int:
    """Images of `share` that are timed, a multiple of `parts`: all on a GPU, on a CPU what takes about a second."""
    images = share
    while device.type == "cpu" and images % (2 * parts) == 0 and images // 2 >= FEWEST:
        if flops * images / share <= FLOPS_A_STEP * torch.get_num_threads():
            break
        images //= 2
    return images


def _seconds(
    step: Callable[[State, Batch], tuple[State, object]], state: State, batch: Batch, device: torch.device, warm: int
) -> tuple[list[float], State]:
    found: list[float] = []
    while len(found) < warm + TIMED and (len(found) <= warm or sum(found) < ENOUGH_S):
        began = _now(device)
        state, _ = step(state, batch)
        found.append(_now(device) - began)
    return found[warm:], state


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
