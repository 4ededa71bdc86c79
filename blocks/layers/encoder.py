"""The pre-norm encoder layer, and what a stack of them draws from one key."""

from collections.abc import Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from blocks.block import Block, Params
from blocks.layers.attention import Attention
from blocks.layers.drop import drop_path_scales, is_rate
from blocks.layers.gpsa import GPSA
from blocks.layers.mlp import Mlp
from blocks.layers.norm import LayerNorm
from blocks.layers.scale import LayerScale
from blocks.layers.swiglu import SwiGLU
from blocks.ops.residual_norm import residual, residual_norm
from blocks.random import fold_in, per_sample, split


@attrs.frozen
class EncoderLayer(Block):
    """tokens [B, N, D] -> [B, N, D]: x + attn(norm1(x)), then x + mlp(norm2(x)) (Dosovitskiy et al. 2021, eq. 2 and 3).

    `attn` and `mlp` say with `is_random` whether they drop anything; ls1 and ls2 scale the branches. `scales` [2, B] is
    this layer's part of `drop_path_scales` where the trunk drew them for all layers; else the layer draws its own.
    `grid` and `keep` are the attention's, and so are `turns`, of one that wants them.
    """

    norm1: Block
    attn: Attention | GPSA
    norm2: Block
    mlp: Mlp | SwiGLU
    drop_path: float = attrs.field(default=0.0, validator=is_rate)
    ls1: Block | None = None
    ls2: Block | None = None

    @property
    def has_dropout(self) -> bool:
        return self.attn.is_random or self.mlp.is_random

    @property
    def is_random(self) -> bool:
        return self.drop_path > 0 or self.has_dropout

    def __call__(
        self,
        params: Params,
        x: Tensor,
        *,
        grid: tuple[int, int] | None = None,
        keep: Tensor | None = None,
        key: Tensor | None = None,
        scales: Tensor | None = None,
        turns: Tensor | None = None,
    ) -> Tensor:
        attn_key, mlp_key, scales = self._draws(key, scales, x)
        attn_scale, mlp_scale = (None, None) if scales is None else scales.unbind(0)  # [B]
        own = {} if turns is None else {"turns": turns}
        y = self.attn(params["attn"], self.norm1(params.get("norm1", {}), x), grid=grid, keep=keep, key=attn_key, **own)
        x, y = self._join(params, x, y, attn_scale)
        y = self.mlp(params["mlp"], y, key=mlp_key)
        y = y if self.ls2 is None else self.ls2(params.get("ls2", {}), y)
        return residual(x, y, scales=mlp_scale)

    def _join(self, params: Params, x: Tensor, y: Tensor, scale: Tensor | None) -> tuple[Tensor, Tensor]:
        """(x + scale ls1(y), norm2 of it), where both are our own blocks by one op."""
        if isinstance(self.norm2, LayerNorm) and isinstance(self.ls1, LayerScale | None):
            norm, gamma = params["norm2"], None if self.ls1 is None else params["ls1"]["gamma"]
            return residual_norm(x, y, norm["weight"], norm["bias"], gamma=gamma, scales=scale, eps=self.norm2.eps)
        y = y if self.ls1 is None else self.ls1(params.get("ls1", {}), y)
        x = residual(x, y, scales=scale)
        return x, self.norm2(params.get("norm2", {}), x)

    def weights(self, params: Params, x: Tensor, *, grid: tuple[int, int] | None = None) -> Tensor:
        """Who attends to whom in this layer: tokens [B, N, D] as the layer takes them -> [B, h, N, N]."""
        return self.attn.weights(params["attn"], self.norm1(params.get("norm1", {}), x), grid=grid)

    def _draws(self, key: Tensor | None, scales: Tensor | None, x: Tensor):
        if key is None:
            return None, None, scales
        if scales is None and self.drop_path:
            scales = drop_path_scales(key, (self.drop_path,), x.shape[0], x.dtype)[0]
        attn_key, mlp_key = split(per_sample(key, x.shape[0])).unbind(-2) if self.has_dropout else (None, None)
        return attn_key, mlp_key, scales


@attrs.frozen
class InPlaceOf:
    """What stands in the place of an encoder layer of a trunk, and is as random as that."""

    layer: EncoderLayer

    @property
    def drop_path(self) -> float:
        return self.layer.drop_path

    @property
    def has_dropout(self) -> bool:
        return self.layer.has_dropout

    @property
    def is_random(self) -> bool:
        return self.layer.is_random


def inner(layer: Any) -> Any:
    """The encoder layer itself, of what stands in its place, compiled or checkpointed; any other block as it is."""
    return inner(layer.layer) if isinstance(layer, InPlaceOf) else layer


def layer_draws(layers: Sequence[EncoderLayer], key: Tensor | None, x: Tensor) -> list[dict[str, Tensor | None]]:
    """The `key` and `scales` of each layer for a batch x [B, ...]: two draws in all, and none for what never drops."""
    if key is None:
        return [{}] * len(layers)
    keys: Sequence[Tensor | None] = [None] * len(layers)
    scales = keys
    rates = tuple(layer.drop_path for layer in layers)
    if any(rates):
        scales = drop_path_scales(key, rates, x.shape[0], x.dtype).unbind(0)
    if any(layer.has_dropout for layer in layers):
        places = torch.arange(len(layers), device=key.device)
        keys = fold_in(per_sample(key, x.shape[0])[:, None], places).unbind(1)  # [B, 2] each
    return [{"key": k, "scales": s if rate else None} for k, s, rate in zip(keys, scales, rates, strict=True)]
