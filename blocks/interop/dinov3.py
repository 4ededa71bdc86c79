"""DINOv3's files, timm's and its own, with one bias and registers (facebookresearch/dinov3: layers/attention.py)."""

import torch

from blocks.tree import Flat

Q_BIAS, MASK = ".q_bias", ".qkv.bias_mask"


def with_one_bias(leaves: Flat) -> Flat:
    """Biases of queries and values as qkv.bias, in which keys have none; storage tokens as reg_token."""
    found = {"reg_token" if name == "storage_tokens" else name: leaf for name, leaf in leaves.items()}
    for attn in [name.removesuffix(Q_BIAS) for name in leaves if name.endswith(Q_BIAS)]:
        q, v = leaves[f"{attn}.q_bias"], leaves.get(f"{attn}.v_bias")
        if q.ndim == 1 and v is not None and v.shape == q.shape:
            found[f"{attn}.qkv.bias"] = torch.cat((q, torch.zeros_like(q), v))
            del found[f"{attn}.q_bias"], found[f"{attn}.v_bias"]
    for attn in [name.removesuffix(MASK) for name in leaves if name.endswith(MASK)]:
        mask, bias = leaves[attn + MASK], leaves.get(f"{attn}.qkv.bias")
        if bias is not None and bias.shape == mask.shape:
            found[f"{attn}.qkv.bias"] = bias * mask
            del found[attn + MASK]
    return found
