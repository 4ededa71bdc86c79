"""A few numbers of the host, on any device."""

import torch
from torch import Tensor


def numbers_on(device: torch.device, numbers: tuple[float, ...]) -> Tensor:
    """float64 [L], on a GPU written there one by one: a CUDA graph can copy nothing from the host."""
    if device.type == "cpu":
        return torch.tensor(numbers, dtype=torch.float64)
    return torch.stack([torch.full((), number, dtype=torch.float64, device=device) for number in numbers])
