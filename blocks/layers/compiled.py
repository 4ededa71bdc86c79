"""Encoder layers compiled one by one: layers that are alike share one compilation, so that a run starts soon."""

from collections.abc import Callable, Hashable
from types import FunctionType
from typing import Any

import attrs
import torch
from torch import Tensor

from blocks.block import Block, Params
from blocks.layers.encoder import EncoderLayer, InPlaceOf


class Forward:
    """layer(params, x, ...), compiled: once for layers that are alike, and for each shape of tokens by itself.

    PyTorch counts what it compiles of a function, and gives up at eight: views of several sizes would come there.
    """

    def __init__(self, backend: str | Callable):
        self.backend = backend
        self.by_shape: dict[Hashable, Callable[..., Tensor]] = {}

    def __call__(self, layer: Block, params: Params, x: Tensor, **knobs: Any) -> Tensor:
        shape = x.shape, x.dtype, torch.is_grad_enabled()
        if shape not in self.by_shape:
            self.by_shape[shape] = compiled_alone(forward, fullgraph=True, backend=self.backend)
        return self.by_shape[shape](layer, params, x, **knobs)


def forward(layer: Block, params: Params, x: Tensor, **knobs: Any) -> Tensor:
    """layer(params, x, ...)."""
    return layer(params, x, **knobs)


def compiled_alone(function: Any, **options: Any) -> Any:
    """torch.compile of a function for fixed shapes, whose compilations count for nobody else of the same source."""
    code = function.__code__.replace()  # what PyTorch counts by
    own = FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    return torch.compile(own, dynamic=False, **options)


@attrs.frozen
class Compiled(InPlaceOf, Block):
    """`layer`, same params and same numbers, computed by `forward`, which all layers of a model share."""

    forward: Forward

    def init(self, key: Tensor) -> Params:
        """The layer's params."""
        return self.layer.init(key)

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None, **knobs: Any) -> Tensor:
        return self.forward(self.layer, params, x, key=key, **knobs)


def compiled_layers(block: Any, backend: str | Callable = "inductor") -> Any:
    """A model, or an objective of models, with all encoder layers in it compiled, forward and backward.

    Raises ValueError where there is none.
    """
    shared = Forward(backend)
    new = in_layers(block, lambda layer: Compiled(layer, shared))
    if new is block:
        raise ValueError(f'{type(block).__name__} has no encoder layers to compile; use compile="loss"')
    return new


def in_layers(block: Any, change: Callable[[Any], Any]) -> Any:
    """A block, or what holds blocks, with change(layer) for each encoder layer in it; itself where it has none."""
    if isinstance(block, EncoderLayer | InPlaceOf):
        return change(block)
    if isinstance(block, tuple):
        found = tuple(in_layers(part, change) for part in block)
        return block if all(new is old for new, old in zip(found, block, strict=True)) else found
    if not attrs.has(type(block)):
        return block
    parts = {field.alias: getattr(block, field.name) for field in attrs.fields(type(block)) if field.init}
    new = {name: in_layers(part, change) for name, part in parts.items()}
    changed = {name: part for name, part in new.items() if part is not parts[name]}
    return attrs.evolve(block, **changed) if changed else block
