"""The global random state of torch (on the CPU), numpy and Python, which other people's functions draw from."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def as_found() -> Iterator[None]:
    """Afterwards the three are what they were."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def seed(words: Sequence[int]) -> None:
    """The three begin at a key's two words, int32."""
    high, low = (word & 0xFFFFFFFF for word in words)
    torch.default_generator.manual_seed(high << 32 | low)  # torch.manual_seed would touch GPUs too
    np.random.seed((high, low))
    random.seed(high << 32 | low)
