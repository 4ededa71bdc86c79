"""What a step asks of an objective and an optimizer that somebody wrote: each mistake is told in one line.

The faces are checked when a step or a state is made, what comes back when it does so for the first time.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from blocks import tree
from blocks.tree import Flat

OBJECTIVE = {"init": ("key",), "loss": ("params", "memory", "batch", "key")}
SETTLING = {"settle_": ("params", "memory", "skip")}
OPTIMIZER = {"init": ("params",), "update_": ("params", "grads", "state", "skip=")}
LOSS = "loss(params, memory, batch, key) -> (loss [], memory, metrics)"
SETTLE = "settle_(params, memory, skip) -> (memory, metrics)"
UPDATE = 'update_(params, grads, state, skip=) -> {"lr": [], ...}'


def check_faces(objective: Any, optimizer: Any) -> None:
    """Raises ValueError for what is no objective or no optimizer."""
    face = OBJECTIVE | (SETTLING if hasattr(objective, "settle_") else {})
    _check_face(objective, "objective", face, "Supervised(model)")
    _check_face(optimizer, "optimizer", OPTIMIZER, "adamw(1e-3)")


def _check_face(thing: Any, kind: str, face: Mapping[str, tuple[str, ...]], example: str) -> None:
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    name = f"{named.__module__}.{named.__qualname__}"  # torch has an AdamW too
    for method, takes in face.items():
        call, found = f"{method}({', '.join(takes)})", getattr(thing, method, None)
        if not callable(found):
            raise ValueError(
                f"{name} is no {kind}: it has no {call}; give one like {example}, the objective before the optimizer"
            )
        if isinstance(thing, type):
            raise ValueError(f"{name} is a class, not an {kind}; call it first")
        if not _may_be_called(found, takes):
            raise ValueError(f"{name}.{method} cannot be called as {call}; it takes {inspect.signature(found)}")


def _may_be_called(method: Any, takes: tuple[str, ...]) -> bool:
    try:
        named = {name.removesuffix("="): None for name in takes if name.endswith("=")}
        inspect.signature(method).bind(*[name for name in takes if not name.endswith("=")], **named)
    except TypeError:
        return False
    return True


def check_tree(whose: str, found: Any) -> None:
    """Raises ValueError for what is no tree of tensors."""
    try:
        tree.leaves(found)
    except TypeError as error:
        raise ValueError(f"{whose} must be a tree of tensors: {error}; {{}} is an empty one") from error


def first_of(objective: Any, key: Tensor) -> tuple[tree.Tree, tree.Tree]:
    """The objective's first (params, memory). Raises ValueError for anything else."""
    found = objective.init(key)
    if not isinstance(found, tuple) or len(found) != 2:
        raise ValueError(f"init(key) returned {_said(found)}; it returns two, (params, memory), a memory {{}} for none")
    for whose, part in zip(("the params of init(key)", "the memory of init(key)"), found, strict=True):
        check_tree(whose, part)
    return found


def outcome_of(found: Any) -> tuple[Tensor, Any, dict[str, Tensor]]:
    """What a loss returned: (loss [], memory, metrics). Raises ValueError for anything else."""
    if not isinstance(found, tuple) or len(found) != 3:
        raise ValueError(f"the loss returned {_said(found)}; it returns three, {LOSS}")
    loss, memory, metrics = found
    if not isinstance(loss, Tensor) or loss.ndim or not loss.is_floating_point():
        raise ValueError(f"the loss is {_said(loss)}; it is one floating-point number, a mean over the samples: {LOSS}")
    check_metrics("the metrics of loss", metrics, LOSS)
    return loss, memory, metrics


def settled_of(found: Any, old: Any) -> tuple[Any, dict[str, Tensor]]:
    """What a settling returned: (memory like the old one, metrics). Raises ValueError for anything else."""
    if not isinstance(found, tuple) or len(found) != 2:
        raise ValueError(f"settle_ returned {_said(found)}; it returns two, {SETTLE}")
    check_memory(old, found[0], "settle_")
    check_metrics("the metrics of settle_", found[1], SETTLE)
    return found


def check_metrics(whose: str, metrics: Any, face: str) -> None:
    """Raises ValueError for metrics that are no dict of 0-dim tensors."""
    if not isinstance(metrics, dict):
        raise ValueError(f"{whose} are {_said(metrics)}, not a dict of tensors []: {face}")
    for name, value in metrics.items():
        if not isinstance(value, Tensor) or value.ndim:
            raise ValueError(f"{whose} have {name!r}: {_said(value)}; each is a tensor []: {face}")


def check_memory(old: Any, new: Any, method: str) -> None:
    """Raises ValueError for a memory with other names, shapes or wider types than before."""
    check_tree(f"the memory that {method} returned", new)
    was, now = tree.flatten(old), tree.flatten(new)
    for name in was | now:
        if name not in was or name not in now:
            raise ValueError(
                f"the memory that {method} returned {'lacks' if name in was else 'has a new'} {name!r}; its names stay "
                "those of init(key)"
            )
        wide = torch.promote_types(was[name].dtype, now[name].dtype)  # narrower ones come back to the old type
        if was[name].shape != now[name].shape or wide != was[name].dtype:
            raise ValueError(
                f"the memory's {name!r} was {_look(was[name])}, and {method} returned {_look(now[name])}; it stays as "
                "init(key) made it"
            )


def check_updated(before: Flat, params: Flat, rates: Any) -> None:
    """Raises ValueError for an update that put new params beside the given ones, or returned no rates."""
    moved = [name for name in before if params.get(name) is not before[name]]
    if moved:
        raise ValueError(f"update_ replaced {moved[0]} instead of writing into it; use {moved[0]}.copy_(new) or so")
    check_metrics("the metrics of update_", rates, UPDATE)


def _look(leaf: Tensor) -> str:
    return f"{str(leaf.dtype).removeprefix('torch.')} {list(leaf.shape)}"


def _said(value: Any) -> str:
    """A value for a message: of a tensor its look, of a tuple its length, of others the type and the value."""
    if isinstance(value, Tensor):
        return f"a tensor {_look(value)}"
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else f"{type(value).__name__} {value!r}"[:60]
