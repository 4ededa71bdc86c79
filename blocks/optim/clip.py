"""The gradient's norm, and clipping: by norm, of all gradients or of each, by value, and adaptive."""

from collections.abc import Iterable
from typing import Protocol

import attrs
import torch
from torch import Tensor

from blocks.checks import is_above_0
from blocks.optim.groups import as_patterns
from blocks.optim.names import matching
from blocks.tree import Flat, Tree, leaves, rebuild

PART = 1 << 18  # numbers that are summed by one call of BLAS
SMALL = 1 << 20  # numbers: below it, on a CPU, one copy costs less than a call for each leaf


class Clip(Protocol):
    """What a step does to gradients before the optimizer: (params, gradients, the gradients' norm) -> gradients.

    The given ones stay as they are.
    """

    def __call__(self, params: Flat, grads: Flat, norm: Tensor) -> Flat: ...


def _above_zero(_: object, field: attrs.Attribute, value: float) -> None:
    if not is_above_0(value):
        raise ValueError(f"{field.name} {value!r} is not above 0; to clip nothing, give no clip")


@attrs.frozen
class ClipNorm:
    """All gradients scaled together, so that their norm is at most `max_norm`."""

    max_norm: float = attrs.field(validator=_above_zero)

    def __call__(self, params: Flat, grads: Flat, norm: Tensor) -> Flat:
        """New gradients."""
        return _named(grads, scale_to_norm(list(grads.values()), norm, self.max_norm))

    def factor(self, norm: Tensor) -> Tensor:
        """What gradients of this norm are multiplied by: []."""
        return norm_factor(norm, self.max_norm)


@attrs.frozen
class ClipEach:
    """Each parameter's gradient scaled by itself, so that its norm is at most `max_norm`: DINO's code and iBOT's."""

    max_norm: float = attrs.field(validator=_above_zero)

    def __call__(self, params: Flat, grads: Flat, norm: Tensor) -> Flat:
        """New gradients."""
        return _named(grads, clip_each(list(grads.values()), self.max_norm))


@attrs.frozen
class ClipValue:
    """Every number of the gradients brought into [-max, max]."""

    max: float = attrs.field(validator=_above_zero)

    def __call__(self, params: Flat, grads: Flat, norm: Tensor) -> Flat:
        """New gradients."""
        return _named(grads, clip_values(list(grads.values()), self.max))


@attrs.frozen
class ClipAdaptive:
    """Each unit's gradient at most `factor` times as long as its weights, which count as `eps` at least.

    `exempt` are name patterns of params left alone: Brock et al. 2021 leave out the last linear layer, ("head.*",).
    """

    factor: float = attrs.field(default=0.01, validator=_above_zero)
    eps: float = attrs.field(default=1e-3, validator=_above_zero)
    exempt: tuple[str, ...] = attrs.field(default=(), converter=as_patterns)

    def __call__(self, params: Flat, grads: Flat, norm: Tensor) -> Flat:
        """New gradients; the exempt ones as they are."""
        free = matching(tuple(grads), self.exempt)
        names = [name for name in grads if name not in free]
        clipped = clip_units([params[n] for n in names], [grads[n] for n in names], self.factor, self.eps)
        new = dict(zip(names, clipped, strict=True))
        return {name: new.get(name, grad) for name, grad in grads.items()}


def global_norm(grads: list[Tensor]) -> Tensor:
    """The 2-norm of all gradients taken as one vector: float []."""
    return GlobalNorm(grads)(grads)


class GlobalNorm:
    """`global_norm` of gradients that are like these leaves, again and again.

    Small ones on a CPU it brings side by side, in storage of its own: a call for each would take longer.
    """

    def __init__(self, leaves: list[Tensor]):
        sizes = [leaf.numel() for leaf in leaves]
        alike = {(leaf.is_cpu, leaf.dtype) for leaf in leaves} == {(True, leaves[0].dtype)}
        self.side_by_side = leaves[0].new_empty(sum(sizes)) if alike and sum(sizes) < SMALL else None
        if self.side_by_side is not None:
            parts = self.side_by_side.split(sizes)
            self.places = [part.view(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]

    def __call__(self, grads: list[Tensor]) -> Tensor:
        if self.side_by_side is None:
            return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
        torch._foreach_copy_(self.places, grads)
        return vector_norm(self.side_by_side)


def vector_norm(x: Tensor) -> Tensor:
    """The 2-norm of a vector [N]: on a CPU by BLAS's dot, part by part, as its sum of 6 million squares in float32 is
    off by up to 7e-5, by the machine; torch.linalg's is off by 2e-4 there, and no faster.
    """
    if x.is_cpu and x.dtype in (torch.float32, torch.float64):
        squares = [part.dot(part) for part in x.split(PART)]
        return (squares[0] if len(squares) == 1 else torch.stack(squares).sum()).sqrt()
    return torch.linalg.vector_norm(x)


def clip_by_norm(grads: Tree, max_norm: float) -> tuple[Tree, Tensor]:
    """(gradients of norm at most max_norm, the norm before): as torch.nn.utils.clip_grad_norm_, but pure."""
    flat = leaves(grads)
    norm = global_norm(flat)
    return rebuild(grads, iter(scale_to_norm(flat, norm, max_norm))), norm


def scale_to_norm(grads: list[Tensor], norm: Tensor, max_norm: float) -> list[Tensor]:
    """New gradients, multiplied by the `norm_factor`."""
    return list(torch._foreach_mul(grads, norm_factor(norm, max_norm)))


def clip_each(grads: list[Tensor], max_norm: float) -> list[Tensor]:
    """New gradients, each multiplied by the `norm_factor` of its own norm."""
    norms = torch.stack([torch.linalg.vector_norm(g) for g in grads])
    return list(torch._foreach_mul(grads, norm_factor(norms, max_norm).unbind()))


def norm_factor(norm: Tensor, max_norm: float) -> Tensor:
    """min(1, max_norm / (norm + 1e-6)); 1e-6 is torch.nn.utils.clip_grad_norm_'s."""
    return (max_norm / (norm + 1e-6)).clamp_(max=1.0)


def clip_values(grads: list[Tensor], limit: float) -> list[Tensor]:
    """New gradients, every number in [-limit, limit]; a NaN stays one."""
    clipped = torch._foreach_clamp_min(grads, -limit)
    torch._foreach_clamp_max_(clipped, limit)
    return list(clipped)


def clip_units(params: list[Tensor], grads: list[Tensor], factor: float, eps: float) -> list[Tensor]:
    """Adaptive clipping, unit by unit: g * min(1, factor * max(|w|, eps) / |g|) (Brock et al. 2021, equation 3)."""
    ratios = torch._foreach_clamp_min([unit_norm(p) for p in params], eps)
    torch._foreach_mul_(ratios, factor)
    torch._foreach_div_(ratios, [unit_norm(g) for g in grads])  # a zero gradient gives infinity, so 1
    torch._foreach_clamp_max_(ratios, 1.0)
    return list(torch._foreach_mul(grads, ratios))


def unit_norm(x: Tensor) -> Tensor:
    """The norm of what feeds each output, [out, ...] -> [out, 1 ...]; of the whole for a vector or a scalar."""
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)) or None, keepdim=x.ndim > 1)


def _named(names: Iterable[str], values: list[Tensor]) -> Flat:
    return dict(zip(names, values, strict=True))
