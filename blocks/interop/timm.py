"""timm's weights, both ways. The names are the same: this checks, it does not translate, and needs no timm."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import Module

from blocks import random, tree
from blocks.block import Block, Params
from blocks.interop.entries import grouped
from blocks.interop.options import wanted_options

WRAPPERS = ("module.", "_orig_mod.")  # what DistributedDataParallel and torch.compile put before every name


def from_timm(model: Block, state_dict: Mapping[str, Tensor]) -> Params:
    """Params of `model` from a timm model's `state_dict()`, copied, contiguous, in the types they have.

    Raises one ValueError that names every missing, unexpected and mis-shaped entry.
    """
    if not isinstance(state_dict, Mapping):
        way = "give its state_dict()" if isinstance(state_dict, Module) else "load_weights(model, path) reads files"
        raise ValueError(f"a {type(state_dict).__name__} is no state_dict; {way}")
    leaves = without_wrappers(state_dict)
    others = [name for name, value in leaves.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError(f"{others} are no tensors; is this a whole checkpoint? Give the state_dict inside it")
    return tree.map(Tensor.contiguous, tree.clone(_fitted(model, leaves)))


def to_timm(model: Block, params: Params) -> dict[str, Tensor]:
    """A `state_dict` for timm's model of the same shape, of params' own storage. Raises ValueError as `from_timm`."""
    return tree.flatten(_fitted(model, tree.flatten(params)))


def _fitted(model: Block, leaves: Mapping[str, Tensor]) -> Params:
    template = model.init(random.key(0, device="meta"))  # shapes only
    try:
        return tree.like(template, leaves)
    except ValueError as error:
        lines = "\n".join(grouped(str(error).splitlines()))
        options = [f"\n({line})" for line in wanted_options(tree.flatten(template), dict(leaves))]
        hint = "".join(options) + _hint(template, leaves)
        raise ValueError(f"these weights are of another model:\n{lines}{hint}") from None


def _hint(template: Params, leaves: Mapping[str, Tensor]) -> str:
    if "dist_token" in leaves and "dist_token" not in template:
        return "\n(a dist_token belongs to a distilled model: make it with deit_small_distilled(), or distilled(model))"
    wanted, found = template.get("pos_embed"), leaves.get("pos_embed")
    if wanted is None or found is None or wanted.shape == found.shape:
        return ""
    return (
        "\n(a pos_embed of another length belongs to another grid: build the model with the img_size and patch_size it "
        "was trained with; the model takes images of any size, and resizes pos_embed to their grid as it runs)"
    )


def without_wrappers(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves by names without the wrappers'. Raises ValueError for two of one name."""
    found: dict[str, Any] = {}
    for name, leaf in leaves.items():
        bare = unwrapped(str(name))
        if bare in found:
            raise ValueError(f"there are two of {bare}, as {name} too; give one state_dict")
        found[bare] = leaf
    return found


def unwrapped(name: str) -> str:
    """A leaf's name without the wrappers'."""
    for wrapper in WRAPPERS:
        if name.startswith(wrapper):
            return unwrapped(name.removeprefix(wrapper))
    return name
