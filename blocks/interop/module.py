"""A block and its params as an ordinary torch.nn.Module."""

from collections.abc import Mapping, Sequence
from typing import Any, overload

import attrs
import torch
from torch import Tensor

from blocks import tree
from blocks.block import Block, Params
from blocks.interop.features import Tokens, intermediates
from blocks.interop.module_trunk import RUNNING
from blocks.interop.node import HEADS, Node, calling, encoder_layers, tree_of
from blocks.trunks.distilled import DistilledModel
from blocks.trunks.model import Model
from blocks.trunks.parts import Parts

BARE = "value"  # the name of the one parameter of a block whose params are a bare tensor


class BlockModule(Node):
    """The block as a module: x -> block(params, x); in training mode a random block draws a key as nn.Dropout would."""

    def __init__(self, block: Block, params: Params):
        super().__init__(params if isinstance(params, Mapping) else {BARE: params}, encoder_layers(block))
        self._block = calling(block)
        self._bare = not isinstance(params, Mapping)
        for name in constants(block, params):
            hold(self, name)

    def forward(self, x: Tensor, **options: Any) -> Any:
        """block(params, x, **options), with a key from torch's global generator in training mode."""
        return self._block(self._params(), x, **self._keyed(x, options))

    def _params(self) -> Params:
        params = tree_of(self)
        return params[BARE] if self._bare else params

    def _keyed(self, x: Tensor, options: dict[str, Any]) -> dict[str, Any]:
        if self.training and "key" not in options and self._block.is_random:
            options["key"] = torch.randint(-(2**31), 2**31 - 1, (2,), dtype=torch.int32, device=x.device)
        return options

    def extra_repr(self) -> str:
        return type(self._block).__name__


class ModelModule(BlockModule):
    """A model as a module that also gives features by the methods and arguments of timm's models.

    Its head can be replaced by any module of features. FSDP2 wants `register_fsdp_forward_method` for each of them that
    is called.
    """

    replaceable = HEADS

    def __init__(self, block: Any, params: Params):
        super().__init__(block, params)
        self._after_trunk = attrs.evolve(self._block, trunk=Tokens())
        self.embed_dim = self.num_features = block.trunk.embed_dim
        self.num_prefix_tokens = block.trunk.num_prefix_tokens

    def _params(self) -> Params:
        return {**{name: {} for name in HEADS}, **super()._params()}  # a model without a head may be given one

    def forward_features(self, x: Tensor, **options: Any) -> Tensor:
        """images [B, C, H, W] -> the trunk's tokens [B, P + N, D]."""
        return self._block.trunk(self._params(), x, **self._keyed(x, options))

    def forward_head(self, x: Tensor, pre_logits: bool = False, **options: Any) -> Tensor:
        """The trunk's tokens [B, P + N, D] -> what the model gives; with pre_logits the pooled features [B, D]."""
        if pre_logits:
            return self._after_trunk.pooled(self._params(), x)
        return self._after_trunk(self._params(), x, **self._keyed(x, options))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """(the trunk's tokens, `intermediate_layers`), or the latter alone; nothing is dropped in training either."""
        found = intermediates(self._block, self._params(), x, indices, norm, return_prefix_tokens, output_fmt)
        return found[1] if intermediates_only else found

    def get_intermediate_layers(
        self,
        x: Tensor,
        n: int | Sequence[int] = 1,
        reshape: bool = False,
        return_prefix_tokens: bool = False,
        norm: bool = False,
    ) -> list:
        """`intermediate_layers` by DINO's names: the last n, or those so numbered; with reshape as maps."""
        fmt = "NCHW" if reshape else "NLC"
        return self.forward_intermediates(x, n, return_prefix_tokens, norm, fmt, intermediates_only=True)


def constants(block: Block, params: Params) -> list[str]:
    """Names of leaves that nothing trains, in the tree's order: running moments, and a foreign module's buffers."""
    buffers = getattr(block, "buffer_names", ())
    return [name for name in tree.flatten(params) if name in buffers or name.split(".")[-1] in RUNNING]


def hold(module: torch.nn.Module, name: str) -> None:
    """Make a buffer of the parameter of that name, which optimizers do not see."""
    place, _, last = name.rpartition(".")
    node = module.get_submodule(place)
    tensor = node._parameters.pop(last, None)
    if tensor is not None:
        node.register_buffer(last, tensor.detach())


@overload
def to_module(block: Model | DistilledModel, params: Params) -> ModelModule: ...
@overload
def to_module(block: Block, params: Params) -> BlockModule: ...
def to_module(block: Block, params: Params) -> BlockModule:
    """An nn.Module of the block that starts from a copy of params; its `state_dict` has the tree's dotted names.

    Running moments, and buffers of a module that became a block, are buffers again: no optimizer changes them.
    It works with DistributedDataParallel, torch.compile, torch.export, torch.optim, `requires_grad_(False)` of a part,
    copy, pickle. The encoder layers of a model or trunk are modules that are called, `module.blocks[0]` and so on, for
    hooks and for FSDP2 (`fully_shard` each, then the whole), and so is a head that replaces the model's. No other
    part has a forward pass of its own: its hooks never run, and another module there is a ValueError when it is called.
    A model has timm's methods too, see `ModelModule`.
    """
    if not isinstance(block, Block):
        said = ": it is a module already" if isinstance(block, torch.nn.Module) else ""
        raise ValueError(f"a {type(block).__name__} is no block{said}; to_module(block, params) wants one")
    return (ModelModule if isinstance(getattr(block, "trunk", None), Parts) else BlockModule)(block, params)
