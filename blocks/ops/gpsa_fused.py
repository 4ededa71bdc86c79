"""GPSA by its kernels, as autograd, torch.compile and torch.func see it: `blocks/ops/kernels/gpsa.py` computes."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from blocks.ops.attention import by_head
from blocks.ops.choose import DTYPES, no_room
from blocks.ops.define import define

LARGEST = 128  # channels of a head
SIDES = {2: 64, 4: 32}  # patches along a side of the grid, by bytes of a number: wider rows do not fit into registers
SLENDER = 8  # times as high as wide: rows of fewer patches make a tile of more rows than fit into registers
# bytes of shared memory that a program takes at most, as Triton 3.9 compiles it (bench/compile_gpsa.py): by bytes of a
# number, and channels and patches of a row up to
SHARED = {
    (2, 64, 1): 131_072, (2, 64, 2): 98_304, (2, 64, 4): 81_920, (2, 64, 64): 73_728,
    (2, 128, 1): 114_688, (2, 128, 2): 106_496, (2, 128, 4): 102_400, (2, 128, 64): 100_352,
    (4, 64, 32): 73_728, (4, 128, 32): 102_784,
}  # fmt: skip


def unsupported(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, cols: Tensor) -> str | None:
    """What the kernels cannot do for these tensors; None if nothing."""
    if v.dtype not in DTYPES or q.dtype != v.dtype or k.dtype != v.dtype:
        return f"q, k, v are {q.dtype}, {k.dtype}, {v.dtype}, and the kernels want one of {', '.join(map(str, DTYPES))}"
    if v.shape[-1] > LARGEST:
        return f"heads have {v.shape[-1]} channels, and the kernels' tiles hold {LARGEST}"
    height, width, side = rows.shape[-1], cols.shape[-1], SIDES[v.element_size()]
    if max(height, width) > side:
        return f"the grid is {height} x {width}, and in {v.dtype} the kernels take {side} a side"
    if height > SLENDER * width:
        return f"the grid is {height} x {width}, and the kernels take grids at most {SLENDER} times as high as wide"
    return no_room(v, shared_bytes(v.element_size(), v.shape[-1], width))


def shared_bytes(bytes_each: int, channels: int, width: int) -> int:
    """What a program takes of shared memory at most, for what `unsupported` lets pass: the narrowest that holds it."""
    fitting = (room for (b, c, w), room in SHARED.items() if b == bytes_each and channels <= c and width <= w)
    return next(fitting)


def gpsa_fused(
    q: Tensor, k: Tensor, v: Tensor, rows: Tensor, cols: Tensor, gate: Tensor, scale: float, num_prefix_tokens: int
) -> Tensor:
    """`gpsa` in one pass; its backward keeps the inputs, the content [B, h, N, d] and a number a query."""
    return Fused.apply(q, k, v, rows, cols, gate, scale, num_prefix_tokens, torch.is_grad_enabled())[0]


def gpsa_fused_packed(
    qkv: Tensor, rows: Tensor, cols: Tensor, gate: Tensor, scale: float, num_prefix_tokens: int
) -> Tensor:
    """`gpsa_fused` of qkv [B, N, 3, h, d]."""
    return Packed.apply(qkv, rows, cols, gate, scale, num_prefix_tokens, torch.is_grad_enabled())[0]


class Fused(torch.autograd.Function):
    """(q, k, v, rows, cols, gate, scale, prefix tokens, whether to keep content) -> (out, content, log-sum-exp)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        return FORWARD(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
        *tensors, ctx.scale, ctx.num_prefix_tokens, _ = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)  # zeros for the content, as many as it has
        ctx.save_for_backward(*tensors, *output[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple:
        packed, *grads = BACKWARD(grad, *ctx.saved_tensors, ctx.scale, ctx.num_prefix_tokens)
        return (*by_head(packed), *grads, None, None, None)


class Packed(torch.autograd.Function):
    """`Fused` of (qkv, rows, cols, gate, ..): its gradient of qkv is one tensor."""

    generate_vmap_rule = True

    @staticmethod
    def forward(qkv: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
        return FORWARD(*by_head(qkv), *others)

    setup_context = Fused.setup_context

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple:
        qkv, *others = ctx.saved_tensors
        grads = BACKWARD(grad, *by_head(qkv), *others, ctx.scale, ctx.num_prefix_tokens)
        return (*grads, None, None, None)


def _forward(*inputs: Any) -> tuple[Tensor, ...]:
    from blocks.ops.kernels import gpsa as kernels  # Triton, only where it is asked for

    return kernels.forward(*inputs)


def _backward(*inputs: Any) -> tuple[Tensor, ...]:
    from blocks.ops.kernels import gpsa as kernels

    return kernels.backward(*inputs)


def _fake(q, k, v, rows, cols, gate, scale, num_prefix_tokens, keep):
    content = like_tokens(v) if keep else v.new_empty(0)
    return like_tokens(v), content, v.new_empty(v.shape[:3], dtype=torch.float32)


def _fake_backward(grad, q, k, v, rows, cols, gate, content, lse, scale, num_prefix_tokens):
    return (packed_like(v), *(torch.empty_like(x) for x in (rows, cols, gate)))


def like_tokens(x: Tensor) -> Tensor:
    """Empty, of x's shape [B, h, N, d], lying as [B, N, h, d]."""
    return x.new_empty(x.shape[0], x.shape[2], x.shape[1], x.shape[3]).transpose(1, 2)


def packed_like(x: Tensor) -> Tensor:
    """Empty [B, N, 3, h, d], for three as x [B, h, N, d]."""
    return x.new_empty(x.shape[0], x.shape[2], 3, x.shape[1], x.shape[3])


def _map(info: Any, dims: tuple, *inputs: Any) -> tuple[tuple, tuple]:
    """More samples of a map are more heads."""
    out, content, lse = FORWARD(*_as_heads(inputs, dims, info.batch_size, (1, 1, 1, 0, 0, 0)))
    keep = inputs[-1]
    found = [_from_heads(x, 1, info.batch_size) if x.ndim > 1 else x for x in (out, content, lse)]
    return tuple(found), (1, 1 if keep else None, 1)


def _map_backward(info: Any, dims: tuple, *inputs: Any) -> tuple[tuple, tuple]:
    folded = _as_heads(inputs, dims, info.batch_size, (1, 1, 1, 1, 0, 0, 0, 1, 1))
    heads = (3, 0, 0, 0)
    grads = BACKWARD(*folded)
    return tuple(_from_heads(x, at, info.batch_size) for x, at in zip(grads, heads, strict=True)), heads


def _as_heads(inputs: tuple, dims: tuple, size: int, heads: tuple[int, ...]) -> list:
    """The inputs, the mapped axis of each tensor folded into its axis of heads."""
    tensors = zip(inputs[: len(heads)], dims, heads, strict=False)
    spread = (x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0) for x, dim, _ in tensors)
    folded = [x.movedim(0, at).flatten(at, at + 1) for x, at in zip(spread, heads, strict=True)]
    return [*folded, *inputs[len(heads) :]]


def _from_heads(x: Tensor, heads: int, size: int) -> Tensor:
    return x.unflatten(heads, (size, -1))


TENSORS = "Tensor q, Tensor k, Tensor v, Tensor rows, Tensor cols, Tensor gate"
FORWARD = define(
    f"gpsa({TENSORS}, float scale, int num_prefix_tokens, bool keep) -> (Tensor, Tensor, Tensor)", _forward, _fake, _map
)
BACKWARD = define(
    f"gpsa_backward(Tensor grad, {TENSORS}, Tensor content, Tensor lse, float scale, int num_prefix_tokens)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
    _map_backward,
)
