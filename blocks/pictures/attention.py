"""Who attends to whom: the attention weights of every layer and head, as the model itself computes them."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from blocks.block import Params
from blocks.layers.encoder import EncoderLayer, inner
from blocks.layers.gpsa import GPSA
from blocks.trunks.parts import Parts

Grid = tuple[int, int]


@torch.no_grad()
def attention_maps(model: Any, params: Params, images: Tensor) -> dict[str, Tensor]:
    """images [B, C, H, W] -> {"blocks.0": [B, h, P + N, P + N], ...}, from token (rows, which sum to 1) to token.

    P prefix tokens come first where they take part: ConViT's class token is not there in its local layers. In GPSA
    layers it is content and position as the gate mixes them. Raises ValueError for a model without attention.
    """
    grid = trunk_of(model).grid(images)
    return {name: layer.weights(p, x, grid=grid) for name, layer, p, x in entered(model, params, images)}


@torch.no_grad()
def content_maps(model: Any, params: Params, images: Tensor) -> dict[str, Tensor]:
    """`attention_maps` as they would be by content alone, without the share of position in GPSA layers."""
    maps = {}
    for name, layer, p, x in entered(model, params, images):
        attn, x = layer.attn, layer.norm1(p["norm1"], x)
        look = attn.content_weights if isinstance(attn, GPSA) else attn.weights
        maps[name] = look(p["attn"], x)
    return maps


@torch.no_grad()
def position_maps(model: Any, params: Params, grid: Grid) -> dict[str, Tensor]:
    """Attention by position on a grid (H, W) of patches, of the GPSA layers alone: {"blocks.0": [h, N, N], ...}."""
    places = {i: layer.attn for i, layer in enumerate(map(inner, trunk_of(model).blocks))}
    local = {i: attn for i, attn in places.items() if isinstance(attn, GPSA)}
    return {f"blocks.{i}": a.position_weights(params["blocks"][str(i)]["attn"], grid) for i, a in local.items()}


def entered(model: Any, params: Params, images: Tensor) -> Iterator[tuple[str, EncoderLayer, Params, Tensor]]:
    """Each layer's name, the layer, its params, and the tokens that reach it."""
    trunk = trunk_of(model)
    tokens = trunk.intermediate_tokens(params, images)
    for i, layer in enumerate(trunk.blocks):
        yield f"blocks.{i}", inner(layer), params["blocks"][str(i)], tokens[i]


def trunk_of(model: Any) -> Parts:
    """The model's trunk, or the trunk that it is. Raises ValueError where there is no attention to look at."""
    trunk = getattr(model, "trunk", model)
    if not shows_attention(trunk):
        raise ValueError(
            f"a {type(trunk).__name__} has no attention to look at; use a trunk of encoder layers (vit, convit) whose "
            "attention has a method `weights`"
        )
    return trunk


def shows_attention(trunk: Any) -> bool:
    """Whether it is a trunk of encoder layers that all give their weights."""
    return isinstance(trunk, Parts) and all(hasattr(inner(layer).attn, "weights") for layer in trunk.blocks)
