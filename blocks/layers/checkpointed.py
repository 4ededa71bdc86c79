"""Activation checkpointing: layers whose activations are made again in the backward pass instead of being kept."""

from typing import Any

import attrs
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from blocks.block import Block, Params
from blocks.layers.encoder import InPlaceOf


@attrs.frozen
class Checkpointed(InPlaceOf, Block):
    """`layer`, same params and same numbers; of its activations only the input is kept (Chen et al. 2016).

    What it drops comes from the key again. Not under torch.func transforms, which refuse it.
    """

    def init(self, key: Tensor) -> Params:
        """The layer's params."""
        return self.layer.init(key)

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None, **knobs: Any) -> Tensor:
        if not torch.is_grad_enabled():
            return self.layer(params, x, key=key, **knobs)
        return checkpoint(
            self.layer, params, x, use_reentrant=False, preserve_rng_state=False, key=key, **knobs
        )  # no global random state to preserve


def checkpointed(model: Any, every: int = 1) -> Any:
    """The model with encoder layers 0, every, 2 every ... of its trunk checkpointed; params and numbers stay.

    A checkpointed layer costs a second forward pass of its own and keeps one [B, N, D] in the place of some twenty.
    Raises ValueError for an `every` that leaves no layer, and for a model without encoder layers at `trunk.blocks`.
    """
    layers = getattr(getattr(model, "trunk", None), "blocks", ())
    if not layers:
        raise ValueError(f"{type(model).__name__} has no encoder layers at trunk.blocks to checkpoint")
    if every < 1:
        raise ValueError(f"every {every} is not a number of layers; use 1 for all, 2 for every second")
    plain = [layer.layer if isinstance(layer, Checkpointed) else layer for layer in layers]
    wrapped = tuple(layer if i % every else Checkpointed(layer) for i, layer in enumerate(plain))
    return attrs.evolve(model, trunk=attrs.evolve(model.trunk, blocks=wrapped))
