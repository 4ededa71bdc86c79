"""Which implementation of an op computes: by device and shape, or the one that is asked for.

An op hands over what its kernel cannot do for these tensors, as words; where that is nothing, the kernel may compute.
"""

import importlib.util
import os
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad

# "plain": the reference; "torch": the fast form of PyTorch's own operations; "triton": the kernel
Impl = Literal["auto", "plain", "torch", "triton"]
KNOWN = ("auto", "plain", "torch", "triton")
# whether "auto" takes the kernels on a GPU: not before they were run and measured on one
KERNELS_ARE_MEASURED = False
DTYPES = (torch.bfloat16, torch.float16, torch.float32)  # of what the layers' kernels read and write
OLDEST = (8, 0)  # compute capability of Ampere
HAS_TRITON = importlib.util.find_spec("triton") is not None  # a constant to torch.compile, which sees through a cache


def choose(impl: Impl, tensor: Tensor, unsupported: str | None | Callable[[], str | None] = None) -> Impl:
    """The implementation for tensors like this one; `unsupported` says what the kernel cannot do, None if nothing.

    Where it is a function, it is asked only if a kernel could run: on a CPU small steps would feel the questions.
    Raises ValueError for an unknown one, and for "triton" where the kernel cannot run.
    """
    if impl not in KNOWN:
        raise ValueError(f"impl {impl!r} is not known; use one of {', '.join(KNOWN)}")
    if impl == "auto" and forwards():
        return "plain"
    if impl not in ("auto", "triton"):
        return impl
    if impl == "auto" and not (KERNELS_ARE_MEASURED and on_gpu(tensor)):
        return "torch"
    reason = (unsupported() if callable(unsupported) else unsupported) or _no_triton(tensor)
    if reason is None:
        return "triton"
    if impl == "triton":
        raise ValueError(f'impl "triton" cannot be used: {reason}; impl "auto" falls back by itself')
    return "torch"


def on_gpu(tensor: Tensor) -> bool:
    """Whether kernels are compiled for the device of such a tensor (bench/traffic.py says so of "meta")."""
    return tensor.is_cuda


def forwards() -> bool:
    """Whether derivatives are taken in forward mode (jvp, jacfwd, hessian): of plain operations alone."""
    return forward_ad._current_level >= 0


def _no_triton(tensor: Tensor) -> str | None:
    """Why no Triton kernel can run on such a tensor; None if one can: on a CPU by Triton's interpreter alone."""
    if not HAS_TRITON:
        return "Triton is not installed"
    if on_gpu(tensor):
        return too_old(tensor.get_device())
    if os.environ.get("TRITON_INTERPRET") != "1":
        return f"the tensors are on {tensor.device.type}, and kernels want a GPU"
    return None


def no_room(tensor: Tensor, shared: int) -> str | None:
    """Why a kernel with so many bytes of shared memory a program cannot run on the tensor's GPU; None if it can."""
    if not tensor.is_cuda:
        return None
    room = shared_memory(tensor.get_device())
    return f"the kernel wants {shared:,} bytes of shared memory, and the GPU gives {room:,}" if shared > room else None


@torch.compiler.assume_constant_result
def too_old(device: int) -> str | None:
    """Why a GPU is none for kernels; None if it is one. AMD's count as too old."""
    found = None if torch.version.hip else torch.cuda.get_device_properties(device)
    capability = (0, 0) if found is None else (found.major, found.minor)
    old = f"the GPU is of capability {capability}, and kernels want {OLDEST}: bfloat16, and TF32 on tensor cores"
    return old if capability < OLDEST else None


@torch.compiler.assume_constant_result
def shared_memory(device: int) -> int:
    """The bytes that a program may have of a GPU; 0 of AMD's."""
    if torch.version.hip:
        return 0
    room: int = getattr(torch.cuda.get_device_properties(device), "shared_memory_per_block_optin", 48 << 10)
    return room  # types before PyTorch 2.15 lack it
