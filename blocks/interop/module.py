"""A block and its params as an ordinary torch.nn.Module."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from blocks.block import Block, Params

BARE = "value"  # the name of the one parameter of a block whose params are a bare tensor


class Node(nn.Module):
    """A node of a params tree: tensors become parameters (buffers if integers), nodes modules, by the same names."""

    def __init__(self, params: Params):
        super().__init__()
        for name, child in (params if isinstance(params, Mapping) else {BARE: params}).items():
            if isinstance(child, Mapping):
                self.add_module(name, Node(child))
            elif child.is_floating_point():
                self.register_parameter(name, nn.Parameter(child.detach().clone()))
            else:
                self.register_buffer(name, child.detach().clone())

    def tree(self) -> Params:
        """The params tree, of the tensors the module holds now."""
        leaves = {**self._parameters, **self._buffers}
        return leaves | {name: node.tree() for name, node in cast(dict[str, Node], self._modules).items()}


class BlockModule(Node):
    """The block as a module: x -> block(params, x); in training mode a random block draws a key as nn.Dropout would."""

    def __init__(self, block: Block, params: Params):
        super().__init__(params)
        self._block = block
        self._bare = not isinstance(params, Mapping)

    def forward(self, x: Tensor, **options) -> Tensor:
        """block(params, x, **options), with a key from torch's global generator in training mode."""
        if self.training and "key" not in options and getattr(self._block, "is_random", True):
            options["key"] = torch.randint(-(2**31), 2**31 - 1, (2,), dtype=torch.int32, device=x.device)
        params = self.tree()
        return self._block(params[BARE] if self._bare else params, x, **options)

    def extra_repr(self) -> str:
        return type(self._block).__name__


def to_module(block: Block, params: Params) -> BlockModule:
    """An nn.Module of the block that starts from a copy of params; its `state_dict` has the tree's dotted names.

    It works with DistributedDataParallel, torch.compile, torch.optim, `requires_grad_(False)` of a part, copy, pickle.
    Shard it whole: parts have no forward pass of their own, so FSDP2 must wrap the root alone.
    """
    return BlockModule(block, params)
