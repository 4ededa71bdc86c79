"""Whether leaves lie as kernels over many of them want: plain, contiguous, on one device."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

PLAIN = (Tensor, torch.nn.Parameter, FakeTensor)  # the last while a step is traced


def scattered(leaves: Iterable[Tensor], device: torch.device) -> str | None:
    """Why they do not, None if they do."""
    if any(type(x) not in PLAIN or not x.is_contiguous() or x.device != device for x in leaves):
        return "not all leaves are plain contiguous tensors on one device"
    return None
