"""A params tree as modules by the same names, of which encoder layers can be called."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from torch import Tensor, nn

from blocks.block import Block, Params
from blocks.interop.entries import some
from blocks.layers.encoder import InPlaceOf
from blocks.trunks.parts import Parts

HEADS = ("head", "head_dist")
MADE = "parametrizations"  # torch's, by the names of the tensors that it makes


class Node(nn.Module):
    """A node of a params tree: tensors become parameters (buffers if integers), nodes modules, by the same names.

    `layers` are the blocks of the nodes "0", "1" ... below "blocks". Nodes so named are a ModuleList.
    """

    replaceable: tuple[str, ...] = ()  # children that may be any module, which is called

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

    def __prepare_scriptable__(self) -> None:
        """What torch.jit.script asks first."""
        raise NotImplementedError(
            "no TorchScript; blocks.to_exported(model, params, images) makes a torch.export program, and "
            "blocks.to_onnx a file of ONNX"
        )


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
    """The params tree, of the tensors that a module holds now, parametrized ones as they come out.

    In place of an encoder layer's params, and of a head's that was replaced, stands the module. Raises ValueError for
    another module where nothing would call it.
    """
    found: dict[str, Any] = {**module._parameters, **module._buffers}
    for name, child in module._modules.items():
        if type(child) is Node:  # the commonest first
            found[name] = tree_of(child)
        elif name == MADE:
            found |= {made: getattr(module, made) for made in child._modules}  # type: ignore[union-attr]
        elif child is not None:
            found[name] = _node_of(module, name, child)
    return found


def _node_of(parent: nn.Module, name: str, child: nn.Module) -> Params:
    if isinstance(child, LayerModule):
        return child
    if isinstance(child, Node | nn.ModuleList):
        return tree_of(child)
    if name in getattr(parent, "replaceable", ()):
        return child
    if type(child) is nn.Linear:
        return tree_of(child)
    if isinstance(parent, nn.ModuleList):  # of encoder layers, one in a wrapper
        return child
    raise ValueError(
        f"{name} is a {type(child).__name__}, which nothing calls: of a model's modules only its head and encoder "
        "layers can be others; torch.nn.utils.parametrize changes a weight, attrs.evolve puts a block of yours into "
        "the model"
    )


@attrs.frozen
class Called(InPlaceOf):
    """An encoder layer, as a trunk calls it, whose params are the module that holds them: it calls the module."""

    def __call__(self, params: Any, x: Tensor, *, key: Tensor | None = None, **options: Any) -> Tensor:
        return params(x, key=key, **options)


@attrs.frozen
class HeadOrModule:
    """features [B, D] -> the head's output; where a module stands in place of its params, that one's."""

    head: Block | None

    def __call__(self, params: Any, x: Tensor) -> Any:
        if isinstance(params, nn.Module):
            return params(x)
        return x if self.head is None else self.head(params, x)


def encoder_layers(block: Any) -> tuple[Block, ...]:
    """The encoder layers of a trunk, or of a model that has one; () of anything else."""
    trunk = getattr(block, "trunk", block)
    return trunk.blocks if isinstance(trunk, Parts) else ()


def calling(block: Any) -> Any:
    """A trunk, or a model that has one, with its encoder layers `Called`, and its head; anything else as it is."""
    if isinstance(block, Parts):
        called: Any = tuple(Called(layer) for layer in block.blocks)
        return attrs.evolve(block, blocks=called)
    if not encoder_layers(block):
        return block
    heads = {name: HeadOrModule(getattr(block, name)) for name in HEADS if hasattr(block, name)}
    return attrs.evolve(block, trunk=calling(block.trunk), **heads)
