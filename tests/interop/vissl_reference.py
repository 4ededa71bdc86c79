"""VISSL's ConViT trunk from its formulas, slowly: 30 positional features per pair of patches, softmaxes in full."""

import math

import torch
import torch.nn.functional as F


def vissl_names(embed_dim, num_heads, depth, local, locality_dim, patches=16, patch_size=4):
    """Random leaves by the names of its trunk."""
    draw = torch.Generator().manual_seed(2)
    leaf = lambda *shape: 0.3 * torch.randn(*shape, generator=draw)  # noqa: E731
    linear = lambda name, out, into: {f"{name}.weight": leaf(out, into), f"{name}.bias": leaf(out)}  # noqa: E731
    width = embed_dim
    leaves = {"class_token": leaf(1, 1, width), "pos_embedding": leaf(1, patches, width)}
    leaves |= {"patch_embed.proj.weight": leaf(width, 3, patch_size, patch_size), "patch_embed.proj.bias": leaf(width)}
    for i in range(depth):
        at = f"blocks.{i}"
        for norm in ("norm1", "norm2"):
            leaves |= {f"{at}.{norm}.weight": 1 + leaf(width), f"{at}.{norm}.bias": leaf(width)}
        if i < local:
            leaves |= {f"{at}.attn.qk.weight": leaf(2 * width, width), f"{at}.attn.v.weight": leaf(width, width)}
            leaves |= {f"{at}.attn.alpha": leaf(1, num_heads, 1, 1)}
            leaves |= linear(f"{at}.attn.pos_proj", num_heads, 3 * locality_dim)
        else:
            leaves |= {f"{at}.attn.qkv.weight": leaf(3 * width, width)}
        leaves |= linear(f"{at}.attn.proj", width, width)
        leaves |= linear(f"{at}.mlp.linear_1", 4 * width, width) | linear(f"{at}.mlp.linear_2", width, 4 * width)
    return leaves | {"norm.weight": 1 + leaf(width), "norm.bias": leaf(width)}


def vissl_convit(p, images, num_heads, local, locality_dim):
    """images [B, 3, H, W] -> class token [B, D] of a trunk with leaves p."""
    depth = 1 + max(int(name.split(".")[1]) for name in p if name.startswith("blocks."))
    size = p["patch_embed.proj.weight"].shape[-1]
    x = F.conv2d(images, p["patch_embed.proj.weight"], p["patch_embed.proj.bias"], stride=size).flatten(2).mT
    x = x + p["pos_embedding"]
    for i in range(depth):
        if i == local:
            x = torch.cat((p["class_token"].expand(len(x), -1, -1), x), 1)
        at = {name.removeprefix(f"blocks.{i}."): leaf for name, leaf in p.items() if name.startswith(f"blocks.{i}.")}
        y = _norm(at, "norm1", x)
        x = x + (_gpsa(at, y, num_heads, locality_dim) if i < local else _attention(at, y, num_heads))
        y = F.gelu(_linear(at, "mlp.linear_1", _norm(at, "norm2", x)))
        x = x + _linear(at, "mlp.linear_2", y)
    return _norm(p, "norm", x)[:, 0]


def _norm(p, name, x):
    return F.layer_norm(x, x.shape[-1:], p[f"{name}.weight"], p[f"{name}.bias"], eps=1e-5)


def _linear(p, name, x):
    return F.linear(x, p[f"{name}.weight"], p.get(f"{name}.bias"))


def _heads(x, num_heads):
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)  # [B, h, N, d]


def _attention(p, x, num_heads):
    q, k, v = (_heads(part, num_heads) for part in _linear(p, "attn.qkv", x).chunk(3, -1))
    weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
    return _linear(p, "attn.proj", (weights @ v).transpose(1, 2).flatten(2))


def _gpsa(p, x, num_heads, locality_dim):
    q, k = (_heads(part, num_heads) for part in _linear(p, "attn.qk", x).chunk(2, -1))
    v = _heads(_linear(p, "attn.v", x), num_heads)
    content = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
    side = math.isqrt(x.shape[1])
    rows, cols = torch.arange(side).repeat_interleave(side), torch.arange(side).repeat(side)
    dx, dy = (cols[None] - cols[:, None]).float(), (rows[None] - rows[:, None]).float()
    kinds = torch.stack((dx, dy, dx**2 + dy**2), -1)
    features = kinds.repeat_interleave(locality_dim, -1)  # [N, N, 3 m]
    position = (_linear(p, "attn.pos_proj", features) / locality_dim).permute(2, 0, 1).softmax(-1)  # [h, N, N]
    gate = p["attn.alpha"].sigmoid()
    weights = (1 - gate) * content + gate * position
    weights = weights / weights.sum(-1, keepdim=True)
    return _linear(p, "attn.proj", (weights @ v).transpose(1, 2).flatten(2))
