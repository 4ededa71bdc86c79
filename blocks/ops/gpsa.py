"""Gated positional self-attention (d'Ascoli et al. 2021, ConViT, equations 6 to 8), exact and separable.

Per head: out = ((1 - g) S + g P) v, with content S = softmax(q k^T scale) and position P = softmax(w . r), where
r = (dx, dy, dx^2 + dy^2). The position logit is a function of dx plus one of dy, so P is the Kronecker product of two
one-dimensional softmaxes and P v is two small matmuls. The rows of S and of P sum to 1: the paper's renormalisation
changes nothing.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from blocks.ops.attention import attention, attention_weights, by_head, drop_weights
from blocks.ops.choose import Impl, choose
from blocks.ops.gpsa_fused import gpsa_fused, gpsa_fused_packed, unsupported


def position_attention(weight: Tensor, bias: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The factors of P = rows x cols: weight [h, 3] of (dx, dy, d2), bias [h] -> rows [h, H, H], cols [h, W, W].

    In float32 at least. The bias cancels in the softmax: its gradient is zero, exactly.
    """
    weight = weight.to(torch.promote_types(weight.dtype, torch.float32))
    to_x, to_y, to_square = (weight + 0 * bias[:, None]).view(-1, 3, 1, 1).unbind(1)  # [h, 1, 1] each
    return _softmax_of_steps(to_y, to_square, grid[0]), _softmax_of_steps(to_x, to_square, grid[1])


def _softmax_of_steps(linear: Tensor, square: Tensor, length: int) -> Tensor:
    """softmax over j of linear (j - i) + square (j - i)^2: [h, 1, 1] each -> [h, length, length]."""
    steps = _steps(length, linear)
    softmax = (steps * (linear + square * steps)).softmax(-1)
    # Below eps**2 nothing changes a row that sums to 1, but far places are subnormal: products with them take a CPU 8
    # times as long.
    return F.threshold(softmax, torch.finfo(softmax.dtype).eps ** 2, 0.0)


def _steps(length: int, like: Tensor) -> Tensor:
    places = torch.arange(length, dtype=like.dtype, device=like.device)
    return places - places[:, None]  # [from, to]


def position_attention_dense(weight: Tensor, bias: Tensor, grid: tuple[int, int]) -> Tensor:
    """The paper's equation 6 as written, the reference of `position_attention`: -> P [h, N, N]."""
    height, width = grid
    dy = _steps(height, weight)[:, None, :, None].expand(height, width, height, width)
    dx = _steps(width, weight)[None, :, None, :].expand(height, width, height, width)
    relative = torch.stack((dx, dy, dx**2 + dy**2), -1).reshape(height * width, height * width, 3)
    return (relative @ weight.T + bias).permute(2, 0, 1).softmax(-1)


def gpsa(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rows: Tensor,
    cols: Tensor,
    gate: Tensor,
    *,
    scale: float | None = None,
    num_prefix_tokens: int = 0,
    impl: Impl = "auto",
) -> Tensor:
    """(1 - g) SDPA + g P v: q, k, v [B, h, P + H W, d], rows [h, H, H], cols [h, W, W], gate [h] in (0, 1) -> like v.

    P prefix tokens (the class token) attend by content alone, and no token attends to them by position.
    Raises ValueError when the tokens are not those of the grid. The kernels have no second derivative.
    """
    _check_grid(v, rows, cols, num_prefix_tokens)
    impl = choose(impl, v, lambda: unsupported(q, k, v, rows, cols))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if impl == "triton":
        return gpsa_fused(q, k, v, rows, cols, gate, scale, num_prefix_tokens)
    return _without_kernel(impl, q, k, v, rows, cols, gate, scale, num_prefix_tokens)


def gpsa_packed(
    qkv: Tensor,
    rows: Tensor,
    cols: Tensor,
    gate: Tensor,
    *,
    scale: float | None = None,
    num_prefix_tokens: int = 0,
    impl: Impl = "auto",
) -> Tensor:
    """`gpsa` of q, k and v as one product makes them: [B, P + H W, 3, h, d] -> [B, h, P + H W, d].

    By kernel their gradients are one tensor too, which nobody has to put together.
    """
    q, k, v = by_head(qkv)
    _check_grid(v, rows, cols, num_prefix_tokens)
    impl = choose(impl, v, lambda: unsupported(q, k, v, rows, cols))
    scale = v.shape[-1] ** -0.5 if scale is None else scale
    if impl == "triton":
        return gpsa_fused_packed(qkv, rows, cols, gate, scale, num_prefix_tokens)
    return _without_kernel(impl, q, k, v, rows, cols, gate, scale, num_prefix_tokens)


def _without_kernel(
    impl: Impl,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rows: Tensor,
    cols: Tensor,
    gate: Tensor,
    scale: float,
    num_prefix_tokens: int,
) -> Tensor:
    """`gpsa` as the paper writes it, or by SDPA and two small matmuls."""
    if impl == "plain":
        return gpsa_dense(q, k, v, rows, cols, gate, scale=scale, num_prefix_tokens=num_prefix_tokens)
    content = attention(q, k, v, scale=scale)
    if num_prefix_tokens == 0:
        return Mix.apply(content, v, rows, cols, gate)
    prefix, patches = content[:, :, :num_prefix_tokens], content[:, :, num_prefix_tokens:]
    return torch.cat((prefix, Mix.apply(patches, v[:, :, num_prefix_tokens:], rows, cols, gate)), 2)


def gpsa_dense(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rows: Tensor,
    cols: Tensor,
    gate: Tensor,
    *,
    scale: float | None = None,
    num_prefix_tokens: int = 0,
    drop: float = 0.0,
    key: Tensor | None = None,
) -> Tensor:
    """`gpsa` as the paper writes it, its reference: attention [B, h, N, N] materialised, renormalised, dropped out."""
    _check_grid(v, rows, cols, num_prefix_tokens)
    position = torch.einsum("hyY,hxX->hyxYX", rows, cols).flatten(3).flatten(1, 2)  # [h, N, N]
    return drop_weights(mixed_weights(attention_weights(q, k, scale), position, gate), drop, key) @ v


def mixed_weights(content: Tensor, position: Tensor, gate: Tensor) -> Tensor:
    """Equation 8: content [B, h, P + N, P + N], position [.., h, N, N], gate [h] -> [B, h, P + N, P + N]."""
    prefix = content.shape[-1] - position.shape[-1]
    patch = torch.arange(content.shape[-1], device=content.device) >= prefix
    gate = (gate[:, None] * patch)[:, :, None].to(content.dtype)  # [h, P + N, 1]
    weights = (1 - gate) * content + gate * F.pad(position, (prefix, 0, prefix, 0)).to(content.dtype)
    return weights / weights.sum(-1, keepdim=True)


def _check_grid(v: Tensor, rows: Tensor, cols: Tensor, num_prefix_tokens: int) -> None:
    height, width = rows.shape[-1], cols.shape[-1]
    if v.shape[2] != num_prefix_tokens + height * width:
        raise ValueError(
            f"{v.shape[2]} tokens are not {num_prefix_tokens} prefix tokens and a grid of {height} x {width}; "
            "make the position attention for the grid of the tokens"
        )


class Mix(torch.autograd.Function):
    """(1 - g) content + g (rows x cols) v. Keeps its inputs alone: SDPA keeps content and v anyway, P v is made again.

    Inside, tokens are laid out as [h, H, W, B d]: then a product is a few large matmuls, over batch and channels.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(content: Tensor, v: Tensor, rows: Tensor, cols: Tensor, gate: Tensor) -> Tensor:
        values = _on_grid(v, rows, cols)
        position = _along_rows(rows, _along_cols(cols, values))
        return torch.lerp(content, _as_tokens(position, v), gate.to(v.dtype)[:, None, None])

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad: Tensor):
        content, v, rows, cols, gate = ctx.saved_tensors
        values, grads = _on_grid(v, rows, cols), _on_grid(grad, rows, cols)
        from_rows = _along_rows(rows.mT, grads)
        grad_rows = (grads.flatten(2) @ _along_cols(cols, values).flatten(2).mT).to(rows.dtype)
        grad_cols = (from_rows @ values.mT).sum(1, dtype=cols.dtype)
        g = gate[:, None, None]
        grad_v = _channels_last(_as_tokens(_along_cols(g * cols.mT, from_rows), v))
        grad_gate = (grad_cols * cols).sum((1, 2)) - _dot_per_head(grad, content)  # the first is <grad, P v>
        grad_content = grad * (1 - g).to(v.dtype).expand(-1, 1, v.shape[-1])
        return grad_content, grad_v, g * grad_rows, g * grad_cols, grad_gate.to(gate.dtype)


def _on_grid(tokens: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """[B, h, H W, d] -> [h, H, W, B d], contiguous."""
    heads, height, width = rows.shape[0], rows.shape[-1], cols.shape[-1]
    return tokens.permute(1, 2, 0, 3).reshape(heads, height, width, -1)


def _as_tokens(on_grid: Tensor, like: Tensor) -> Tensor:
    """[h, H, W, B d] -> [B, h, H W, d], a view."""
    batch, heads, tokens, channels = like.shape
    return on_grid.view(heads, tokens, batch, channels).permute(2, 0, 1, 3)


def _channels_last(tokens: Tensor) -> Tensor:
    """[B, h, N, d] in the memory of [B, N, h, d], as SDPA's gradients lie that it is added to."""
    return tokens.transpose(1, 2).contiguous().transpose(1, 2)


def _along_rows(rows: Tensor, x: Tensor) -> Tensor:
    return (rows.to(x.dtype) @ x.flatten(2)).view(x.shape)


def _along_cols(cols: Tensor, x: Tensor) -> Tensor:
    return cols.to(x.dtype)[:, None] @ x


def _dot_per_head(a: Tensor, b: Tensor) -> Tensor:
    """Sums of a * b: [B, h, N, d] each -> [h]. Channels last, so that the long sum runs over contiguous rows."""
    accumulate = torch.promote_types(a.dtype, torch.float32)
    by_channel = (a * b).transpose(1, 2).flatten(2).flatten(0, 1).sum(0, dtype=accumulate)
    return by_channel.view(a.shape[1], -1).sum(1)
