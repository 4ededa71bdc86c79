"""Values and gradients of a function of a params tree."""

from collections.abc import Callable, Sequence
from functools import cached_property
from operator import is_
from typing import Any

import torch
from torch import Tensor

from blocks.optim.clip import GlobalNorm
from blocks.train.freeze import trainable
from blocks.tree import Tree, flatten, rebuild

Function = Callable[[Tree], tuple[Tensor, Any]]  # params -> (value [], anything else)


def value_and_grad(fn: Function, params: Tree) -> tuple[tuple[Tensor, Any], Tree]:
    """((value, aux), gradients) of fn(params) -> (value [], aux), gradients being a tree like params.

    Works on detached leaf copies, so params stay as they are; with activation checkpointing, custom ops and
    collectives. A leaf that the value does not depend on has gradient zero.
    """
    copies = LeafCopies(params)
    value, aux, grads = copies.gradient(fn)
    return (value, aux), rebuild(params, iter(copies.own(grads)))


class LeafCopies:
    """A params tree's leaves as leaves of a new graph, to differentiate by; they share the params' storage.

    With dtype those of floating point are copies in that type; `own` brings gradients back to each leaf's own type: the
    same numbers as differentiating through the cast. Leaves that a pattern of `frozen` matches need no gradient: what
    depends on them alone builds no graph, and they have no place among names, originals, copies and gradients. Making
    the copies costs some microseconds a leaf: whoever updates params in place may keep them as long as they `stand_for`
    the params.
    """

    def __init__(
        self,
        params: Tree,
        dtype: torch.dtype | None = None,
        frozen: tuple[str, ...] = (),
    ):
        self.given, self.dtype = flatten(params), dtype
        cast = {} if dtype is None else {n: t for n, t in self.given.items() if t.is_floating_point()}
        self.all = {n: torch.empty_like(t, dtype=dtype) if n in cast else t.detach() for n, t in self.given.items()}
        self.cast = [self.all[name] for name in cast], list(cast.values())
        self.trainable = trainable(self.given, frozen)
        self.names, self.originals = tuple(self.trainable), list(self.trainable.values())
        self.copies = [self.all[name].requires_grad_() for name in self.names]
        self.tree = rebuild(params, iter(self.all.values()))

    def stand_for(self, flat: dict[str, Tensor]) -> bool:
        """Whether these are copies of just these tensors under just these dotted names."""
        return flat.keys() == self.given.keys() and all(map(is_, flat.values(), self.given.values()))

    def gradient(self, fn: Function, scale: float | Tensor = 1.0) -> tuple[Tensor, Any, Sequence[Tensor]]:
        """(value, aux, gradients in `names` order): fn's value as it is, the gradients times scale."""
        value, aux = self.forward(fn)
        grads = torch.autograd.grad(value, self.copies, cotangent(value, scale), allow_unused=True)
        found = [torch.zeros_like(c) if g is None else g for g, c in zip(grads, self.copies, strict=True)]
        return value.detach(), aux, found

    def accumulate(self, fn: Function, scale: float | Tensor = 1.0) -> tuple[Tensor, Any]:
        """(value, aux); each gradient comes to its copy's `grad` as soon as it is final, before the earlier layers'
        backward, where a hook may take it. A leaf that the value does not depend on keeps none.
        """
        value, aux = self.forward(fn)
        torch.autograd.backward(value, cotangent(value, scale), inputs=self.copies)
        return value.detach(), aux

    def forward(self, fn: Function) -> tuple[Tensor, Any]:
        """(value, aux) of the copies, brought up to date. Raises ValueError for a value that has no gradient."""
        if self.dtype is not None:
            with torch.no_grad():
                torch._foreach_copy_(*self.cast)
        value, aux = fn(self.tree)
        if not value.requires_grad:
            raise ValueError("the loss does not depend on the params; look for a detach(), an item() or a no_grad()")
        return value, aux

    def own(self, grads: Sequence[Tensor]) -> list[Tensor]:
        """Gradients in the params' types, contiguous (autograd may return an expanded view)."""
        if self.dtype is None:
            return [g.contiguous() for g in grads]
        found = [torch.empty_like(p, memory_format=torch.contiguous_format) for p in self.originals]
        torch._foreach_copy_(found, list(grads))
        return found

    @cached_property
    def norm(self) -> GlobalNorm:
        """The norm [] of gradients in the params' types."""
        return GlobalNorm(self.originals)

    def named(self, grads: Sequence[Tensor]) -> dict[str, Tensor]:
        """Gradients by dotted name."""
        return dict(zip(self.names, grads, strict=True))


def cotangent(value: Tensor, scale: float | Tensor) -> Tensor | None:
    """What the backward pass begins with, in the value's type and shape []; None for 1."""
    if isinstance(scale, Tensor):
        return scale.to(value.dtype).view_as(value)
    return None if scale == 1.0 else torch.full_like(value, scale)
