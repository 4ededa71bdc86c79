"""Gated positional self-attention among some of a grid's patches, as a masked autoencoder's encoder sees them.

On a subset the position softmax does not factor into rows and columns, and is another for each sample: it is made
whole, [B, h, M, M] for M patches. Content is one fused attention call as ever.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from blocks.ops.attention import attention, attention_weights, drop_weights
from blocks.ops.gpsa import mixed_weights


def position_among(weight: Tensor, bias: Tensor, places: Tensor, width: int) -> Tensor:
    """P of ConViT's equation 6 over the patches at `places` [B, M] of a grid `width` wide alone: -> [B, h, M, M].

    weight [h, 3] of (dx, dy, d2), bias [h]; in float32 at least. The bias cancels: its gradient is zero, exactly.
    """
    weight = weight.to(torch.promote_types(weight.dtype, torch.float32)) + 0 * bias[:, None]
    at = torch.stack((places % width, places // width), 1).to(weight.dtype)  # x and y, [B, 2, M]
    steps = at[:, :, None, :] - at[:, :, :, None]  # [B, 2, from, to]
    relative = torch.cat((steps, steps.square().sum(1, keepdim=True)), 1)
    softmax = (weight @ relative.flatten(2)).unflatten(-1, relative.shape[2:]).softmax(-1)
    return F.threshold(softmax, torch.finfo(softmax.dtype).eps ** 2, 0.0)  # subnormal numbers are slow on a CPU


def gpsa_among(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    position: Tensor,
    gate: Tensor,
    *,
    scale: float | None = None,
    drop: float = 0.0,
    key: Tensor | None = None,
) -> Tensor:
    """(1 - g) SDPA + g P v: q, k, v [B, h, P + M, d], position [B, h, M, M], gate [h] in (0, 1) -> like v.

    P prefix tokens attend by content alone. With a key, weights are dropped at `drop`, from the dense form.
    """
    if key is not None and drop > 0:
        return gpsa_among_dense(q, k, v, position, gate, scale=scale, drop=drop, key=key)
    prefix = v.shape[2] - position.shape[-1]
    content = attention(q, k, v, scale=scale)
    moved = position.to(v.dtype) @ v[:, :, prefix:]
    patches = torch.lerp(content[:, :, prefix:], moved, gate.to(v.dtype)[:, None, None])
    return torch.cat((content[:, :, :prefix], patches), 2) if prefix else patches


def gpsa_among_dense(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    position: Tensor,
    gate: Tensor,
    *,
    scale: float | None = None,
    drop: float = 0.0,
    key: Tensor | None = None,
) -> Tensor:
    """`gpsa_among` as the paper writes it, its reference: attention materialised, renormalised, dropped out."""
    return drop_weights(mixed_weights(attention_weights(q, k, scale), position, gate), drop, key) @ v
