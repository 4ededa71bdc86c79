"""Which implementation of an op computes: by device and shape, or the one that is asked for.

An op hands over what its kernel cannot do for these tensors, as words; where that is nothing, the kernel may compute.
"""

import importlib.util
import os
from collections.abc import Callable
from typing import Literal

from torch import Tensor

# "plain": the reference; "torch": the fast form of PyTorch's own operations; "triton": the kernel
Impl = Literal["auto", "plain", "torch", "triton"]
KNOWN = ("auto", "plain", "torch", "triton")
# whether "auto" takes the kernels on a GPU: not before they were run and measured on one
KERNELS_ARE_MEASURED = False
HAS_TRITON = importlib.util.find_spec("triton") is not None  # a constant to torch.compile, which sees through a cache


def choose(impl: Impl, tensor: Tensor, unsupported: str | None | Callable[[], str | None] = None) -> Impl:
    """The implementation for tensors like this one; `unsupported` says what the kernel cannot do, None if nothing.

    Where it is a function, it is asked only if a kernel could run: on a CPU small steps would feel the questions.
    Raises ValueError for an unknown one, and for "triton" where the kernel cannot run.
    """
    if impl not in KNOWN:
        raise ValueError(f"impl {impl!r} is not known; use one of {', '.join(KNOWN)}")
    if impl not in ("auto", "triton"):
        return impl
    if impl == "auto" and not (KERNELS_ARE_MEASURED and tensor.is_cuda):
        return "torch"
    reason = (unsupported() if callable(unsupported) else unsupported) or _no_triton(tensor)
    if reason is None:
        return "triton"
    if impl == "triton":
        raise ValueError(f'impl "triton" cannot be used: {reason}; impl "auto" falls back by itself')
    return "torch"


def _no_triton(tensor: Tensor) -> str | None:
    """Why no Triton kernel can run on such a tensor; None if one can: on a CPU by Triton's interpreter alone."""
    if not HAS_TRITON:
        return "Triton is not installed"
    if tensor.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"the tensors are on {tensor.device.type}, and kernels want a GPU"
    return None
