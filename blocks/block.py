"""The block contract: hyperparameters and sub-blocks in, never a tensor; params and key are arguments."""

from collections.abc import Mapping
from typing import Any

import attrs
from torch import Tensor

from blocks.random import fold_in

Params = Any  # a tensor, or nested dicts of tensors


@attrs.frozen
class Block:
    """`init(key) -> params` and `__call__(params, x, *, key=None) -> y`; without a key every block is deterministic.

    A block made of sub-blocks needs no `init` of its own: its params are {field name: sub-block's params}, a tuple
    of blocks {"0": ..., "1": ...}. Sub-blocks without params leave no entry.
    """

    @property
    def is_random(self) -> bool:
        """Whether a key changes what it computes; of a block that does not say it is taken to be so."""
        return True

    def init(self, key: Tensor) -> Params:
        """Fresh params, each a function of the key and of its place in the tree."""
        params = {}
        for place, field in enumerate(attrs.fields(type(self))):
            node = _init_node(getattr(self, field.name), fold_in(key, place))
            if node is not None and not (isinstance(node, dict) and not node):
                params[field.name] = node
        return params

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        """Output for input x. The shapes are each block's own."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it computes")


def part(params: Params, name: str) -> Params:
    """The params of the sub-block of that name. Raises ValueError that says what is there instead."""
    if isinstance(params, Mapping) and name in params:
        return params[name]
    if not isinstance(params, Mapping):
        raise ValueError(f"params are a {type(params).__name__}; give model(params, images), params of model.init(key)")
    if any(str(given).startswith(f"{name}.") for given in params):
        raise ValueError(
            f"params are flat, {next(iter(params))!r} and so on: blocks.from_timm(model, state_dict) makes a tree of "
            "a state_dict"
        )
    raise ValueError(f"params have no {name!r}, they have {list(params)}: they are another model's, or a part of them")


def _init_node(value: Any, key: Tensor) -> Params | None:
    if isinstance(value, Block):
        return value.init(key)
    if isinstance(value, tuple) and value and all(isinstance(v, Block) for v in value):
        return {str(i): block.init(fold_in(key, i)) for i, block in enumerate(value)}
    return None
