"""Small tables of the host's numbers on a device, made once and found again, also by what a CUDA graph replays.

A copy waits for nobody: it comes from pinned memory. While a graph is captured nothing is computed, and no pinned
memory may be asked for. So a table that is made then is copied by each replay, from memory that was laid aside before,
and is nobody else's; and all that a graph reads stays, for nothing tells when it is replayed for the last time.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

MOST = 64  # tables that are kept: gradients are given the same few addresses again and again


class Tables:
    """(a name, what makes its numbers, a device) -> these numbers there, [n], where the current stream sees them."""

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype
        self.known: OrderedDict[tuple[Hashable, ...], Tensor] = OrderedDict()
        self.spare: dict[int, Tensor] = {}  # pinned memory by length
        self.replayed: list[Tensor] = []  # what graphs read

    def __call__(self, name: Hashable, make: Callable[[], Sequence[float]], device: torch.device) -> Tensor:
        key = name, device, stream_of(device)
        if capturing(device):
            return self.for_a_graph(key, make, device)
        if key not in self.known:
            self.known[key] = self.copied(make(), device)
        self.known.move_to_end(key)
        table = self.known[key]
        if len(self.known) > MOST:
            self.known.popitem(last=False)
        if len(table) not in self.spare:
            self.spare[len(table)] = pinned(len(table), self.dtype, device)
        return table

    def for_a_graph(
        self, key: tuple[Hashable, ...], make: Callable[[], Sequence[float]], device: torch.device
    ) -> Tensor:
        """One that is known, or one that each replay copies; it is kept from now on."""
        same = (table for known, table in self.known.items() if known[:2] == key[:2])  # a capture waits for all streams
        table = next(same, None)
        if table is None:
            numbers = make()
            host = self.spare.pop(len(numbers), None)
            host = pinned(len(numbers), self.dtype, device) if host is None else host
            table = host.copy_(torch.tensor(numbers, dtype=self.dtype)).to(device, non_blocking=True)
            self.replayed.append(host)
        self.replayed.append(table)
        return table

    def copied(self, numbers: Sequence[float], device: torch.device) -> Tensor:
        """On a CPU it is the host's own."""
        host = pinned(len(numbers), self.dtype, device).copy_(torch.tensor(numbers, dtype=self.dtype))
        return host.to(device, non_blocking=True)


def capturing(device: torch.device) -> bool:
    """Whether a CUDA graph is being captured."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def stream_of(device: torch.device) -> int:
    """The current stream: another may be ahead of the copy."""
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0


def pinned(count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory of the host that a copy to this device need not wait for."""
    return torch.empty(count, dtype=dtype, pin_memory=device.type == "cuda")
