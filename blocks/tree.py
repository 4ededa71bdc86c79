"""Trees of tensors: nested dicts and frozen attrs classes, with dotted names for leaves.

A params tree's dotted names are timm's `state_dict` names, e.g. `blocks.0.attn.qkv.weight`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

Flat = dict[str, Tensor]  # leaves by dotted name, as `flatten` gives them
Tree = Any  # a Tensor, or a dict or attrs instance of trees


def children(tree: Tree) -> dict[str, Tree] | None:
    """A node's named children; None for a leaf. Raises TypeError for what is neither tensor, dict nor attrs class."""
    if isinstance(tree, Tensor):
        return None
    if isinstance(tree, Mapping):
        return dict(tree)
    if attrs.has(type(tree)):
        return {a.name: getattr(tree, a.name) for a in attrs.fields(type(tree))}
    raise TypeError(f"a tree holds tensors, dicts and attrs classes, not {type(tree).__name__}")


def flatten(tree: Tree) -> dict[str, Tensor]:
    """Leaves by dotted name, in order: {"a": {"b": t}} -> {"a.b": t}. A bare tensor has the name ""."""
    if isinstance(tree, Tensor):
        return {"": tree}
    found: dict[str, Tensor] = {}
    _flatten(tree, "", found)
    return found


def _flatten(tree: Tree, path: str, found: dict[str, Tensor]) -> None:
    nodes = tree if type(tree) is dict else _nodes(tree)
    for name, node in nodes.items():
        if type(node) is not dict and isinstance(node, Tensor):  # the cheaper question first
            found[path + name] = node
        else:
            _flatten(node, path + name + ".", found)


def leaves(tree: Tree) -> list[Tensor]:
    """All leaves in `flatten`'s order, without their names."""
    found: list[Tensor] = []
    _collect({"": tree}, found)
    return found


def _collect(tree: Tree, found: list[Tensor]) -> None:
    nodes = tree if type(tree) is dict else _nodes(tree)
    for node in nodes.values():
        if isinstance(node, Tensor):
            found.append(node)
        else:
            _collect(node, found)


def _nodes(tree: Tree) -> dict[str, Tree]:
    nodes = children(tree)
    assert nodes is not None  # a tensor never comes here
    return nodes


def rebuild(template: Tree, values: Iterator[Tensor]) -> Tree:
    """Nested dicts with the template's names and these leaves, taken in `flatten`'s order."""
    if isinstance(template, Tensor):
        return next(values)
    return {name: rebuild(node, values) for name, node in _nodes(template).items()}


def unflatten(leaves: Mapping[str, Tensor]) -> dict[str, Tree]:
    """Nested dicts from dotted names: {"a.b": t} -> {"a": {"b": t}}.

    Raises ValueError where a name is both leaf and node.
    """
    root: dict[str, Tree] = {}
    for name, leaf in leaves.items():
        *path, last = name.split(".")
        node = root
        for part in path:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ValueError(f"{name!r} lies below {part!r}, which is a tensor")
        if last in node:
            raise ValueError(f"{name!r} is there twice, or is a tensor and has tensors below it")
        node[last] = leaf
    return root


def map(fn: Callable[..., Any], tree: Tree, *rest: Tree) -> Tree:
    """The same tree with fn(leaf, *leaves of the rest at the same place) at every leaf.

    Raises ValueError where the trees differ.
    """
    nodes = children(tree)
    others: list[Any] = [children(r) for r in rest]
    for other in others:
        if (other is None) != (nodes is None) or (nodes is not None and other.keys() != nodes.keys()):
            raise ValueError(f"trees differ: {_names(nodes)} and {_names(other)}")
    if nodes is None:
        return fn(tree, *rest)
    mapped = {name: map(fn, node, *(o[name] for o in others)) for name, node in nodes.items()}
    return mapped if isinstance(tree, Mapping) else attrs.evolve(tree, **mapped)


def _names(nodes: dict[str, Tree] | None) -> list[str] | str:
    return "a tensor" if nodes is None else sorted(nodes)


def like(template: Tree, leaves: Mapping[str, Tensor]) -> Tree:
    """The template's tree with its leaves taken by name.

    Raises ValueError that names every missing, unexpected and mis-shaped leaf.
    """
    wanted = flatten(template)
    problems = _differences(wanted, leaves)
    if problems:
        raise ValueError("\n".join(problems))
    names = iter(wanted)
    return map(lambda _: leaves[next(names)], template)


def _differences(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    lines = [f"missing {n} {list(t.shape)}" for n, t in wanted.items() if n not in found]
    lines += [f"unexpected {n} {list(t.shape)}" for n, t in found.items() if n not in wanted]
    both = [n for n in wanted if n in found and wanted[n].shape != found[n].shape]
    return lines + [f"{n}: wanted {list(wanted[n].shape)}, found {list(found[n].shape)}" for n in both]


def cast(tree: Tree, dtype: torch.dtype) -> Tree:
    """Floating-point leaves in another type (differentiable); integers stay."""
    return map(lambda t: t.to(dtype) if t.is_floating_point() else t, tree)


def clone(tree: Tree) -> Tree:
    """A copy that shares no storage with the tree."""
    return map(lambda t: t.detach().clone(), tree)


def to(tree: Tree, device: torch.device | str) -> Tree:
    """The tree on another device."""
    return map(lambda t: t.to(device), tree)


def count(tree: Tree) -> int:
    """Number of scalars in all leaves."""
    return sum(t.numel() for t in flatten(tree).values())
