"""A residual branch joins the stream, and the layer norm of the stream that comes after it.

As plain operations that is: gain per channel, factor per sample, addition, layer norm, each a reading and a writing of
the whole stream, and as many again backward. As one kernel each number is read and written once: docs/kernels.md.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from blocks.ops.choose import DTYPES, Impl, choose
from blocks.ops.define import define, one_by_one

WIDEST = 8192


def residual_norm(
    x: Tensor,
    branch: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    gamma: Tensor | None = None,
    scales: Tensor | None = None,
    eps: float = 1e-6,
    impl: Impl = "auto",
) -> tuple[Tensor, Tensor]:
    """s = x + scales gamma branch, and layer norm of s: x, branch [B, .., D], scales [B], others [D] -> (s, normed).

    `gamma` is a layer scale's, `scales` those of `drop_path_scales`, which the kernel gives no gradient.
    """
    impl = choose(impl, x, lambda: _unsupported(x, branch, weight, scales))
    if impl == "triton":
        return Joined.apply(x, branch, weight, bias, gamma, scales, eps)[:2]
    if impl == "plain":
        return residual_norm_plain(x, branch, weight, bias, gamma, scales, eps)
    stream = residual(x, branch, gamma, scales)
    return stream, torch.layer_norm(stream, weight.shape, weight, bias, eps)


def residual(x: Tensor, branch: Tensor, gamma: Tensor | None = None, scales: Tensor | None = None) -> Tensor:
    """x + scales gamma branch: x, branch [B, .., D], gamma [D], scales [B]."""
    branch = branch if gamma is None else branch * gamma
    return x + branch if scales is None else torch.addcmul(x, branch, _per_sample(scales, x))


def residual_norm_plain(
    x: Tensor, branch: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor | None, scales: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """`residual_norm` as its formulas are written (Ba et al. 2016, equation 4), its reference."""
    gain = 1 if gamma is None else gamma
    factor = 1 if scales is None else _per_sample(scales, x)
    stream = x + factor * (gain * branch)
    centred = stream - stream.mean(-1, keepdim=True)
    return stream, centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias


def _per_sample(scales: Tensor, x: Tensor) -> Tensor:
    return scales.view(-1, *(1,) * (x.ndim - 1))


def _unsupported(x: Tensor, branch: Tensor, weight: Tensor, scales: Tensor | None) -> str | None:
    if x.dtype not in DTYPES or branch.dtype not in DTYPES:
        return f"x and branch are {x.dtype} and {branch.dtype}, and the kernel wants {', '.join(map(str, DTYPES))}"
    if weight.numel() > WIDEST:
        return f"rows have {weight.numel()} numbers, and the kernel holds {WIDEST}"
    if x.shape != branch.shape or x.shape[-1:] != weight.shape or x.numel() == 0:
        return f"x is {tuple(x.shape)}, branch {tuple(branch.shape)}, weight {tuple(weight.shape)}"
    if x.numel() > x.shape[-1] << 30:
        return "there are more than 2**30 rows"
    return "scales want a gradient" if scales is not None and scales.requires_grad else None


class Joined(torch.autograd.Function):
    """(x, branch, weight, bias, gamma, scales, eps) -> (stream, normed, means, reciprocal deviations).

    Keeps the stream and two numbers a row; the branch only where a layer scale's gradient wants it.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        return FORWARD(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        x, branch, weight, _, gamma, scales, _ = inputs
        stream, _, mean, deviation = output
        ctx.mark_non_differentiable(mean, deviation)
        ctx.dtypes = x.dtype, branch.dtype
        kept = None if gamma is None else branch
        ctx.save_for_backward(stream, mean, deviation, weight, kept, gamma, scales)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_stream: Tensor, grad_normed: Tensor, *_: Any) -> tuple:
        dtype, branch_dtype = ctx.dtypes
        grads = BACKWARD(grad_stream, grad_normed, *ctx.saved_tensors, branch_dtype)
        grad_x, grad_branch, grad_weight, grad_bias, grad_gamma = grads
        *_, gamma, scales = ctx.saved_tensors
        if gamma is None and scales is None and branch_dtype == grad_x.dtype:
            grad_branch = grad_x
        grad_gamma = None if gamma is None else grad_gamma
        return grad_x.to(dtype), grad_branch, grad_weight, grad_bias, grad_gamma, None, None


def _forward(*inputs: Any) -> tuple[Tensor, ...]:
    from blocks.ops.kernels import residual_norm as kernels  # Triton, only where it is asked for

    return kernels.forward(*inputs)


def _backward(*inputs: Any) -> tuple[Tensor, ...]:
    from blocks.ops.kernels import residual_norm as kernels

    return kernels.backward(*inputs)


def _fake(x, branch, weight, bias, gamma, scales, eps):
    stream = x.new_empty(x.shape, dtype=torch.promote_types(x.dtype, branch.dtype))
    per_row = x.new_empty(x.shape[:-1].numel(), dtype=torch.float32)
    return stream, torch.empty_like(stream), per_row, torch.empty_like(per_row)


def _fake_backward(grad_stream, grad_normed, stream, mean, deviation, weight, branch, gamma, scales, branch_dtype):
    same = gamma is None and scales is None and branch_dtype == stream.dtype
    grad_branch = stream.new_empty(0) if same else torch.empty_like(stream, dtype=branch_dtype)
    grad_gamma = stream.new_empty(0, dtype=torch.float32) if gamma is None else torch.empty_like(gamma)
    return torch.empty_like(stream), grad_branch, torch.empty_like(weight), torch.empty_like(weight), grad_gamma


FORWARD: Any = define(
    "residual_norm(Tensor x, Tensor branch, Tensor weight, Tensor bias, Tensor? gamma, Tensor? scales, float eps)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _forward,
    _fake,
    lambda info, dims, *inputs: one_by_one(FORWARD, info, dims, *inputs),
)
BACKWARD: Any = define(
    "residual_norm_backward(Tensor grad_stream, Tensor grad_normed, Tensor stream, Tensor mean, Tensor deviation,"
    " Tensor weight, Tensor? branch, Tensor? gamma, Tensor? scales, ScalarType branch_dtype)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
    lambda info, dims, *inputs: one_by_one(BACKWARD, info, dims, *inputs),
)
