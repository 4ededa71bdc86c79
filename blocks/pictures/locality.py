"""How far heads look, and how much they look by position: the numbers of ConViT's two figures."""

from typing import Any

import torch
from torch import Tensor

from blocks.block import Params
from blocks.pictures.attention import Grid, entered, position_maps, trunk_of


def gates(params: Params) -> Tensor:
    """The share of position in each head of the GPSA layers, sigmoid(gating_param): -> [layers, h], from 0 to 1.

    [0, 0] for params without gates, as a ViT's.
    """
    found = [params["blocks"][name]["attn"]["gating_param"] for name in gated_layers(params)]
    return torch.stack(found).detach().sigmoid() if found else torch.zeros(0, 0)


def gated_layers(params: Params) -> list[str]:
    """The names below `blocks` of the layers that `gates` speaks of, in order of depth: ["0", "1", ...]."""
    return sorted((name for name, layer in params["blocks"].items() if "gating_param" in layer["attn"]), key=int)


def position_kernels(model: Any, params: Params, grid: Grid) -> Tensor:
    """Attention by position as kernels of a convolution, of the GPSA layers: -> [layers, h, H', W'], each summing to 1.

    The weights of the patch in the middle of a grid (H, W), of one patch more where H or W is even, so that there is a
    middle: place (y, x) of a kernel weighs the patch (y - H' // 2, x - W' // 2) from the query. [0, 0, H', W'] without
    such layers.
    """
    height, width = (side // 2 * 2 + 1 for side in grid)
    maps = position_maps(model, params, (height, width))
    middle = [weights[:, height * width // 2].unflatten(1, (height, width)) for weights in maps.values()]
    return torch.stack(middle) if middle else torch.zeros(0, 0, height, width)


@torch.no_grad()
def attention_distance(model: Any, params: Params, images: Tensor) -> Tensor:
    """How far each head looks: images [B, C, H, W] -> [layers, h], in patches; times the patch size in pixels.

    The distance from a patch to those it attends to, averaged by its attention to patches (what goes to the class token
    has no distance), then over all patches, borders included, and images (Dosovitskiy et al. 2021, figure 7;
    d'Ascoli et al. 2021, section 4). Each layer is given the tokens that reach it.
    """
    grid = trunk_of(model).grid(images)
    looked = [mean_distance(layer.weights(p, x, grid=grid), grid) for _, layer, p, x in entered(model, params, images)]
    return torch.stack(looked)


def nonlocality(model: Any, params: Params, images: Tensor) -> Tensor:
    """`attention_distance` averaged over heads, ConViT's non-locality of a layer: -> [layers], in patches."""
    return attention_distance(model, params, images).mean(1)


def mean_distance(weights: Tensor, grid: Grid) -> Tensor:
    """Weights [..., h, P + N, P + N] of a grid's patches, the last N -> [h], in patches, in float32 at least."""
    steps = distances(grid, weights.device)
    seen = weights[..., -len(steps) :, -len(steps) :]  # [..., h, N, N]
    seen = seen.to(torch.promote_types(seen.dtype, torch.float32))
    each = (seen * steps).sum(-1) / seen.sum(-1).clamp_min(torch.finfo(seen.dtype).tiny)  # the class token may take all
    return each.mean(-1).view(-1, each.shape[-2]).mean(0)


def distances(grid: Grid, device: torch.device | None = None) -> Tensor:
    """Between all patches of a grid (H, W), Euclidean, in patches: -> [N, N]."""
    y, x = (torch.arange(float(n), device=device) for n in grid)
    places = torch.complex(*torch.meshgrid(x, y, indexing="xy")).flatten()
    return (places - places[:, None]).abs()
