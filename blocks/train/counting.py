"""What a model and a step cost, counted on the meta device: FLOPs, and what the forward pass keeps for the backward.

FLOPs are those of matrix products, convolutions and attention, two for each multiply-add, as PyTorch's own
`torch.utils.flop_counter` counts them; what else a layer does is bound by memory, not by arithmetic.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from blocks import tree


@attrs.define
class Layer:
    """Its params, FLOPs, and bytes kept for the backward pass."""

    name: str
    parameters: int = 0
    flops: int = 0
    kept: int = 0


@attrs.frozen
class Cost:
    """What one forward and one backward pass of a loss take: FLOPs, and bytes kept between them."""

    forward: int
    backward: int
    kept: int


def layer_of(name: str) -> str:
    """The layer of a parameter: "blocks.0" of "blocks.0.attn.qkv.weight", "head" of "head.weight"."""
    first, *rest = name.split(".")
    return f"{first}.{rest[0]}" if rest and rest[0].isdecimal() else first


def layers(model: Any, params: tree.Tree, images: Tensor) -> list[Layer]:
    """The layers in the order of params, with the cost of a forward pass on images [B, C, H, W] of which only the
    shape is taken. What has no params, such as attention's softmax, counts to the layer whose params were used last.
    """
    params = _on_meta(params)
    flat = tree.flatten(params)
    found = {layer_of(name): Layer(layer_of(name)) for name in flat}
    for name, leaf in flat.items():
        found[layer_of(name)].parameters += leaf.numel()
    counter = _Counter({_storage(leaf): layer_of(name) for name, leaf in flat.items()})
    with counting(counter):
        model(params, images.to("meta"))
    for name, layer in found.items():
        layer.flops, layer.kept = counter.flops.get(name, 0), counter.kept.get(name, 0)
    return list(found.values())


def cost_of(loss: Callable[[tree.Tree], Tensor], params: tree.Tree, trained: Collection[str] | None = None) -> Cost:
    """The cost of `loss(params) -> []` and its gradient by the `trained` params (dotted names), by default all."""
    params = _on_meta(params)
    if trained is not None:
        for name, leaf in tree.flatten(params).items():
            leaf.requires_grad_(name in trained)
    leaves = [leaf for leaf in tree.leaves(params) if leaf.requires_grad]
    counter = _Counter({_storage(leaf): "" for leaf in tree.leaves(params)})
    with counting(counter):
        value = loss(params)
        forward = sum(counter.flops.values())
        torch.autograd.grad(value, leaves, allow_unused=True)
    return Cost(forward, sum(counter.flops.values()) - forward, sum(counter.kept.values()))


@contextmanager
def counting(counter: "_Counter") -> Iterator[None]:
    """Inside, tensors on the meta device are counted: alone, since other processes would wait for what never comes."""
    connected = dist.is_initialized
    dist.is_initialized = lambda: False
    try:
        with counter, _FusedAttention(), torch.autograd.graph.saved_tensors_hooks(counter.keep, lambda x: x):
            yield
    finally:
        dist.is_initialized = connected


class _Counter(TorchDispatchMode):
    """Counts by layer, given the storages of its params."""

    def __init__(self, layer_of: dict[int, str]) -> None:
        super().__init__()
        self.layer_of, self.params = dict(layer_of), set(layer_of)
        self.layer = next(iter(layer_of.values()), "")
        self.flops: dict[str, int] = {}
        self.kept: dict[str, int] = {}
        self._seen: dict[int, Tensor] = {}  # held, so that no storage's number is given out again

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        owners = [self.layer_of[_storage(t)] for t in _tensors((args, kwargs)) if _storage(t) in self.layer_of]
        self.layer = owners[0] if owners else self.layer
        out = func(*args, **kwargs)
        if func._overloadpacket in flop_registry:
            count = flop_registry[func._overloadpacket](*args, **kwargs, out_val=out)
            self.flops[self.layer] = self.flops.get(self.layer, 0) + count
        return out

    def keep(self, x: Tensor) -> Tensor:
        """Note what autograd saves, each storage once; not the params, which are there anyway."""
        place = _storage(x)
        if place not in self._seen and place not in self.params:
            self._seen[place] = x
            self.kept[self.layer] = self.kept.get(self.layer, 0) + x.untyped_storage().nbytes()
        return x


class _FusedAttention(TorchFunctionMode):
    """On the meta device PyTorch's attention would be its unfused form, which keeps weights that no device keeps."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        plain = len(args) == 3 and not set(kwargs) - {"scale"}
        if func is F.scaled_dot_product_attention and plain and args[0].device.type == "meta":
            return torch.ops.aten._scaled_dot_product_flash_attention(*args, **kwargs)[0]
        return func(*args, **kwargs)


def _on_meta(params: tree.Tree) -> tree.Tree:
    """Leaves that want a gradient, without numbers."""
    return tree.map(lambda t: torch.empty_like(t, device="meta").requires_grad_(t.is_floating_point()), params)


def _storage(x: Tensor) -> int:
    return x.untyped_storage()._cdata


def _tensors(values: Any) -> Sequence[Tensor]:
    return [x for x in tree_leaves(values) if isinstance(x, Tensor)]
