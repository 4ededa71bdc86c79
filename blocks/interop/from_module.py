"""An ordinary torch.nn.Module as a block: its tensors become params, its code the call."""

import copy
import threading
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.func import functional_call

from blocks import tree
from blocks.block import Block, Params
from blocks.random import bits

ONE_AT_A_TIME = threading.RLock()


@attrs.frozen
class ModuleBlock(Block):
    """x -> module(x) in evaluation mode, of params that bear the module's names; `make()` builds a module.

    Buffers are params too: BatchNorm reads its running statistics and leaves them as they are, Dropout drops nothing.
    So any module can be evaluated (a teacher), and those without buffers can be trained. One that has some is trained
    as a trunk by `trunk_from_module`, or with its statistics held fast, as detectors are, by
    `make_step(..., frozen=block.buffer_names)`. Raises ValueError where a buffer is to be differentiated by.
    """

    make: Callable[[], nn.Module]
    skeleton: nn.Module = attrs.field(init=False, eq=False, repr=False)
    buffer_names: tuple[str, ...] = attrs.field(init=False, eq=False, repr=False)

    @skeleton.default
    def _skeleton(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            skeleton = without_storage(self.make()).eval()
        forget(skeleton)
        return skeleton

    @buffer_names.default
    def _buffer_names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.skeleton.named_buffers())

    @property
    def is_random(self) -> bool:
        return False

    def init(self, key: Tensor) -> Params:
        """The tensors of a module that `make` builds with torch's generator seeded by the key, on the key's device."""
        if key.device.type == "meta":
            return tensors(self.skeleton)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(bits(key)) & 0xFFFF_FFFF)  # on the CPU alone; it takes 32 bits
            return tree.map(lambda t: t.to(key.device), tensors(self.make()))

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        leaves = tree.flatten(params)
        check_not_trained(leaves, self.buffer_names)
        return called(self.skeleton, leaves, x)


def called(module: nn.Module, leaves: tree.Flat, x: Tensor) -> Any:
    """module(x) of these tensors. They stand in the module while it runs, so other threads wait."""
    alone = nullcontext() if torch.compiler.is_compiling() else ONE_AT_A_TIME  # a compiler knows no locks
    with alone:
        try:
            return functional_call(module, leaves, (x,))
        finally:
            forget(module)


def forget(module: nn.Module) -> None:
    """Drop what parts made of their params and kept for evaluation, as timm's LeViT does: their `train` does it."""
    for part in module.modules():
        if type(part).train is not nn.Module.train:
            part.train()
            part.eval()


def from_module(module: nn.Module) -> tuple[ModuleBlock, Params]:
    """(block, a copy of its params) of a module that has its weights; the block's `init` gives these same weights."""
    check_module(module)
    return ModuleBlock(partial(copy.deepcopy, copy.deepcopy(module))), tensors(module)


def check_module(module: object) -> None:
    """Raises ValueError for what is no module."""
    if isinstance(module, Block):
        raise ValueError(f"a {type(module).__name__} is a block already; use it as it is")
    if not isinstance(module, nn.Module):
        said = f"the class {module.__name__}: call it" if isinstance(module, type) else f"a {type(module).__name__}"
        raise ValueError(f"a torch.nn.Module is wanted, not {said}")


def check_not_trained(leaves: tree.Flat, buffer_names: tuple[str, ...]) -> None:
    """Raises ValueError where a gradient by a buffer is wanted: there is none, and weight decay would change it."""
    trained = [name for name in buffer_names if name in leaves and leaves[name].requires_grad]
    if trained:
        raise ValueError(
            f"{', '.join(trained[:3])} and so on are buffers, {len(trained)} in all, and no parameters: hold them fast "
            "with frozen=block.buffer_names, or train with the batch's own statistics: trunk_from_module(module, ...)"
        )


def without_storage(module: nn.Module) -> nn.Module:
    """A copy on the meta device, in which what the module shares is still shared (`to` would part it)."""
    twins = {id(t): t.detach().to("meta") for t in module.buffers()}
    twins |= {id(p): nn.Parameter(p.detach().to("meta")) for p in module.parameters()}
    return copy.deepcopy(module, twins)


def tensors(module: nn.Module) -> Params:
    """A module's parameters and buffers, copied, as a tree by their dotted names."""
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return tree.unflatten({name: tensor.detach().clone() for name, tensor in named.items()})
