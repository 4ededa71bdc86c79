"""The first half of an encoder's perceptron: gelu(x W^T + b), exact (Hendrycks and Gimpel 2016).

What a kernel of its own can save is one reading of the widest tensor there is, for the bias's gradient
(docs/kernels.md). The product stays the library's, whose kernels are better than ours would be.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from blocks.ops.choose import Impl, choose

DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor, *, impl: Impl = "auto") -> Tensor:
    """gelu(x W^T + b): x [.., D], weight [E, D], bias [E] -> [.., E]."""
    impl = choose(impl, x, lambda: _unsupported(x, weight, bias))
    if impl == "triton":
        return BiasGelu.apply(F.linear(x, weight), bias)
    hidden = F.linear(x, weight, bias)
    return gelu_plain(hidden) if impl == "plain" else F.gelu(hidden)


def gelu_plain(x: Tensor) -> Tensor:
    """x times the normal distribution's share below x."""
    return x * (1 + torch.erf(x / 2**0.5)) / 2


def _unsupported(x: Tensor, weight: Tensor, bias: Tensor) -> str | None:
    if any(t.dtype not in DTYPES for t in (x, weight, bias)):
        return f"x, weight, bias are {x.dtype}, {weight.dtype}, {bias.dtype}, and the kernel knows {DTYPES}"
    return "x is empty" if x.numel() == 0 else None


class BiasGelu(torch.autograd.Function):
    """(x [.., D], bias [D]) -> gelu(x + bias). Keeps its inputs."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, bias: Tensor) -> Tensor:
        return torch.ops.blocks.bias_gelu(x, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ops.blocks.bias_gelu_backward(grad, *ctx.saved_tensors)


torch.library.define("blocks::bias_gelu", "(Tensor x, Tensor bias) -> Tensor")
torch.library.define("blocks::bias_gelu_backward", "(Tensor grad, Tensor x, Tensor bias) -> (Tensor, Tensor)")


@torch.library.impl("blocks::bias_gelu", ("cpu", "cuda"))
def _(x: Tensor, bias: Tensor) -> Tensor:
    from blocks.ops.kernels import gelu as kernels  # Triton, only where it is asked for

    return kernels.forward(x, bias)


@torch.library.impl("blocks::bias_gelu_backward", ("cpu", "cuda"))
def _(grad: Tensor, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    from blocks.ops.kernels import gelu as kernels

    return kernels.backward(grad, x, bias)


@torch.library.register_fake("blocks::bias_gelu")
def _(x: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.register_fake("blocks::bias_gelu_backward")
def _(grad: Tensor, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), torch.empty_like(bias)


@torch.library.register_vmap("blocks::bias_gelu")
def _(info: Any, dims: tuple, x: Tensor, bias: Tensor) -> tuple[Tensor, int]:
    if dims[1] is None:
        return torch.ops.blocks.bias_gelu(x.movedim(dims[0], 0), bias), 0
    pairs = zip(*_unbound(info, dims, x, bias), strict=True)
    return torch.stack([torch.ops.blocks.bias_gelu(*pair) for pair in pairs]), 0


@torch.library.register_vmap("blocks::bias_gelu_backward")
def _(info: Any, dims: tuple, *inputs: Tensor) -> tuple[tuple, tuple[int, int]]:
    """One by one: each has a gradient of the bias of its own."""
    found = [torch.ops.blocks.bias_gelu_backward(*each) for each in zip(*_unbound(info, dims, *inputs), strict=True)]
    return tuple(torch.stack(x) for x in zip(*found, strict=True)), (0, 0)


def _unbound(info: Any, dims: tuple, *inputs: Tensor) -> list:
    return [[x] * info.batch_size if dim is None else x.unbind(dim) for x, dim in zip(inputs, dims, strict=True)]
