"""A params tree as modules by the same names, of which encoder layers can be called."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from torch import Tensor, nn

from blocks.block import Block, Params
from blocks.interop.entries import some
from blocks.layers.encoder import InPlaceOf
from blocks.trunks.parts import Parts


class Node(nn.Module):
    """A node of a params tree: tensors become parameters (buffers if integers), nodes modules, by the same names.

    `layers` are the blocks of the nodes "0", "1" ... below "blocks". Nodes so named are a ModuleList.
    """

    def __init__(self, params: Mapping[str, Params], layers: Sequence[Block] = ()):
        super().__init__()
        if layers and "blocks" not in params:
            raise ValueError(f"these params have no layers below blocks, as the block's: they have {_names(params)}")
        for name, child in params.items():
            if isinstance(child, Mapping):
                self.add_module(name, node(child, layers if name == "blocks" else ()))
            elif child.is_floating_point():
                self.register_parameter(name, nn.Parameter(child.detach().clone()))
            else:
                self.register_buffer(name, child.detach().clone())


def _names(params: Mapping[str, Params]) -> str:
    flat = any("." in name for name in params)
    more = ", flat: blocks.from_timm(model, state_dict) makes a tree of a state_dict" if flat else ""
    return some(params) + more


class LayerModule(Node):
    """An encoder layer: tokens [B, N, D] -> [B, N, D]. The model calls it, so that its hooks run, and FSDP2's."""

    def __init__(self, layer: Block, params: Params):
        super().__init__(params)
        self._layer = layer

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        """layer(params, x, **options)."""
        return self._layer(tree_of(self), x, **options)


def node(params: Mapping[str, Params], layers: Sequence[Block]) -> nn.Module:
    """A node of a params tree; where there are layers, theirs."""
    if layers:
        if list(params) != [str(i) for i in range(len(layers))]:
            raise ValueError(
                f"these params have the layers {list(params)}, the block {len(layers)}: they are another's"
            )
        return nn.ModuleList(LayerModule(layer, params[str(i)]) for i, layer in enumerate(layers))
    if list(params) == [str(i) for i in range(len(params))] and all(isinstance(p, Mapping) for p in params.values()):
        return nn.ModuleList(Node(child) for child in params.values())
    return Node(params)


def tree_of(module: nn.Module) -> dict[str, Params]:
    """The params tree, of the tensors that a module holds now; in place of an encoder layer's params, its module."""
    children = ((name, child) for name, child in module._modules.items() if child is not None)
    nodes = {name: child if isinstance(child, LayerModule) else tree_of(child) for name, child in children}
    return {**module._parameters, **module._buffers, **nodes}


@attrs.frozen
class Called(InPlaceOf):
    """An encoder layer, as a trunk calls it, whose params are the module that holds them: it calls the module."""

    def __call__(self, params: Any, x: Tensor, *, key: Tensor | None = None, **options: Any) -> Tensor:
        return params(x, key=key, **options)


def encoder_layers(block: Any) -> tuple[Block, ...]:
    """The encoder layers of a trunk, or of a model that has one; () of anything else."""
    trunk = getattr(block, "trunk", block)
    return trunk.blocks if isinstance(trunk, Parts) else ()


def calling(block: Any) -> Any:
    """A trunk, or a model that has one, with its encoder layers `Called`; anything else as it is."""
    if isinstance(block, Parts):
        called: Any = tuple(Called(layer) for layer in block.blocks)
        return attrs.evolve(block, blocks=called)
    return attrs.evolve(block, trunk=calling(block.trunk)) if encoder_layers(block) else block
