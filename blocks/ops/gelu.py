"""The first half of an encoder's perceptron: gelu(x W^T + b), exact (Hendrycks and Gimpel 2016).

What a kernel of its own can save is one reading of the widest tensor there is, for the bias's gradient
(docs/kernels.md). The product stays the library's, whose kernels are better than ours would be.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from blocks.ops.choose import DTYPES, Impl, choose
from blocks.ops.define import define, one_by_one

SMALL = 1 << 15  # numbers: above it, on a CPU, oneDNN's kernel is the faster


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor, *, impl: Impl = "auto") -> Tensor:
    """gelu(x W^T + b): x [.., D], weight [E, D], bias [E] -> [.., E]."""
    impl = choose(impl, x, lambda: _unsupported(x, weight, bias))
    if impl == "triton":
        return BiasGelu.apply(F.linear(x, weight), bias)
    hidden = F.linear(x, weight, bias)
    return gelu_plain(hidden) if impl == "plain" else gelu(hidden)


def gelu(x: Tensor) -> Tensor:
    """GELU of any x, by PyTorch.

    On a CPU it leaves contiguous float32 to oneDNN, which spends some 15 us a call on its preparations, backward too;
    of few numbers that is the most. A transposed view it keeps for itself, and is as close to the formula. A program
    that is exported is for any number, a symbol.
    """
    count = x.numel()
    if x.ndim == 2 and x.is_cpu and isinstance(count, int) and count <= SMALL:
        return F.gelu(x.t()).t()
    return F.gelu(x)


def gelu_plain(x: Tensor) -> Tensor:
    """x times the normal distribution's share below x."""
    return x * (1 + torch.erf(x / 2**0.5)) / 2


def quick_gelu(x: Tensor) -> Tensor:
    """x times the sigmoid of 1.702 x, the formula that stands near GELU's (Hendrycks and Gimpel 2016, section 2)."""
    return x * torch.sigmoid(1.702 * x)


def _unsupported(x: Tensor, weight: Tensor, bias: Tensor) -> str | None:
    if any(t.dtype not in DTYPES for t in (x, weight, bias)):
        return f"x, weight, bias are {x.dtype}, {weight.dtype}, {bias.dtype}, and the kernel knows {DTYPES}"
    if x.numel() > x.shape[-1] << 30:
        return "there are more than 2**30 rows"
    return "x is empty" if x.numel() == 0 else None


class BiasGelu(torch.autograd.Function):
    """(x [.., D], bias [D]) -> gelu(x + bias). Keeps its inputs."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, bias: Tensor) -> Tensor:
        return FORWARD(x, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        return BACKWARD(grad, *ctx.saved_tensors)


def _forward(x: Tensor, bias: Tensor) -> Tensor:
    from blocks.ops.kernels import gelu as kernels  # Triton, only where it is asked for

    return kernels.forward(x, bias)


def _backward(grad: Tensor, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    from blocks.ops.kernels import gelu as kernels

    return kernels.backward(grad, x, bias)


def _map(info: Any, dims: tuple, x: Tensor, bias: Tensor) -> tuple[Tensor, int]:
    """More samples of one bias are one call."""
    if dims[1] is None:
        return FORWARD(x.movedim(dims[0], 0), bias), 0
    (found,), _ = one_by_one(lambda *each: (FORWARD(*each),), info, dims, x, bias)
    return found, 0


FORWARD: Any = define(
    "bias_gelu(Tensor x, Tensor bias) -> Tensor", _forward, lambda x, bias: x.new_empty(x.shape), _map
)
BACKWARD: Any = define(
    "bias_gelu_backward(Tensor grad, Tensor x, Tensor bias) -> (Tensor, Tensor)",
    _backward,
    lambda grad, x, bias: (x.new_empty(x.shape), torch.empty_like(bias)),
    lambda info, dims, *inputs: one_by_one(BACKWARD, info, dims, *inputs),
)
