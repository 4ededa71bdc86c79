"""Scaled dot-product attention: torch's fused kernel, or the explicit softmax for dropout and forward mode."""

import torch.nn.functional as F
from torch import Tensor

from blocks.ops.choose import forwards
from blocks.ops.dropout import keyed_dropout
from blocks.random import per_sample


def attention(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float | None = None, drop: float = 0.0, key: Tensor | None = None
) -> Tensor:
    """softmax(q k^T scale) v: q, k, v [B, h, N, d] -> [B, h, N, d]; scale is d**-0.5 by default.

    The fused kernel has no second derivative but inside `torch.nn.attention.sdpa_kernel(SDPBackend.MATH)`, and no
    forward mode, where the explicit softmax computes.
    """
    if (drop == 0.0 or key is None) and not forwards():
        return F.scaled_dot_product_attention(q, k, v, scale=scale)
    return drop_weights(attention_weights(q, k, scale), drop, key) @ v


def by_head(parts: Tensor) -> tuple[Tensor, ...]:
    """[B, N, parts, h, d] -> its parts, [B, h, N, d] each.

    Transposed last: the gradients of SDPA, which lie as [B, N, h, d], come back side by side in one copy.
    """
    return tuple(part.transpose(1, 2) for part in parts.unbind(2))


def attention_weights(q: Tensor, k: Tensor, scale: float | None = None) -> Tensor:
    """softmax(q k^T scale), materialised: q, k [B, h, N, d] -> [B, h, N, N]."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return ((q * scale) @ k.transpose(-2, -1)).softmax(-1)


def drop_weights(weights: Tensor, drop: float, key: Tensor | None) -> Tensor:
    """Dropout of attention weights [B, h, N, N], each sample's mask from its own key; nothing without a key."""
    if drop == 0.0 or key is None:
        return weights
    return keyed_dropout(weights, per_sample(key, weights.shape[0]), drop)
