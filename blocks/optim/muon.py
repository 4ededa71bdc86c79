"""Muon: orthogonal steps for hidden matrices (Jordan et al. 2024), AdamW for all else."""

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

import attrs
import torch
from torch import Tensor

from blocks.checks import above_0, count
from blocks.optim.adamw import fused_
from blocks.optim.groups import Group, Grouped, Part, as_patterns, groups_of
from blocks.optim.knobs import are_betas, is_share
from blocks.optim.lists import add_scaled_, decay_, scale_
from blocks.optim.names import NO_DECAY, matching, names_and_ranks
from blocks.optim.schedule import Schedule
from blocks.optim.skipping import keeping, unless, zero_where

QUINTIC = (3.4445, -4.7750, 2.0315)  # a, b, c of Jordan et al.: they bring singular values to about 0.7 to 1.2
NOT_HIDDEN = frozenset((*NO_DECAY, "patch_embed", "head", "head_dist", "pos_proj"))  # GPSA's [heads, 3] is a position
ADJUSTMENTS = {  # what multiplies the rate of a matrix [R, C]
    "match_rms_adamw": lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)),  # Liu et al. 2025, equation 4
    "original": lambda rows, columns: math.sqrt(max(1.0, rows / columns)),  # Jordan et al.
}


def is_adjustment(_: object, field: attrs.Attribute, value: str) -> None:
    """Validates its name."""
    if value not in ADJUSTMENTS:
        raise ValueError(f"{field.name} {value!r} is unknown; there are {', '.join(map(repr, ADJUSTMENTS))}")


@attrs.frozen
class Muon(Grouped):
    """State {"momentum_buffer": {matrix: tensor}, "exp_avg": {other: tensor}, "exp_avg_sq": likewise, "count": []}."""

    momentum: float = attrs.field(validator=is_share)
    nesterov: bool
    iterations: int = attrs.field(validator=count)
    adjust: str = attrs.field(validator=is_adjustment)
    matrices: tuple[str, ...] | None = attrs.field(converter=as_patterns)
    betas: tuple[float, float] = attrs.field(validator=are_betas)
    eps: float = attrs.field(validator=above_0)

    @property
    def slots(self) -> tuple[str, ...]:
        return "momentum_buffer", "exp_avg", "exp_avg_sq"

    def held(self, slot: str, flat: dict[str, Tensor]) -> Iterable[str]:
        """The names of the params that have this slot. Raises ValueError for a matrix that has not two axes."""
        hidden = self.hidden(flat)
        return [name for name in flat if (name in hidden) == (slot == "momentum_buffer")]

    def hidden(self, flat: dict[str, Tensor]) -> frozenset[str]:
        """The matrices' names."""
        return hidden_names(*names_and_ranks(flat), self.matrices)

    def groups(self, flat: dict[str, Tensor]) -> tuple[Group, ...]:
        """The groups of these leaves, the matrices' apart."""
        return groups_of(*names_and_ranks(flat), self.no_decay, self.lr_scales, self.wake, self.hidden(flat))

    def step_(self, parts: Iterator[Part], number: Tensor, skip: Tensor | None) -> None:
        """See `orthogonal_` and AdamW's `fused_`."""
        step, found_inf = number.float(), None if skip is None else skip.float()
        for part in parts:
            if part.group.apart:
                self.orthogonal_(part, part.slots[0], skip)
            else:
                fused_(part, part.slots[1], part.slots[2], step, self.betas, self.eps, skip, found_inf)

    def orthogonal_(self, part: Part, buffers: list[Tensor], skip: Tensor | None) -> None:
        """The matrices of a group, those of one shape at once."""
        slopes, lr = zero_where(skip, part.grads), unless(skip, part.lr)
        scale_(buffers, keeping(skip, self.momentum))
        torch._foreach_add_(buffers, slopes, alpha=1 - self.momentum)
        moves = torch._foreach_lerp(slopes, buffers, self.momentum) if self.nesterov else buffers
        decay_(part.params, lr, part.weight_decay)
        for shape, places in by_shape(part.params).items():
            stack = orthogonal(torch.stack([moves[i] for i in places]).bfloat16(), self.iterations)  # [K, R, C]
            params = [part.params[i] for i in places]
            add_scaled_(params, stack.to(params[0].dtype).unbind(), -ADJUSTMENTS[self.adjust](*shape) * lr)

    def words(self, group: Group) -> str:
        """What is done to the leaves of a group."""
        return f"{'Muon' if group.apart else 'AdamW'}, {super().words(group)}"


def orthogonal(x: Tensor, iterations: int = 5, eps: float = 1e-7) -> Tensor:
    """Matrices [K, R, C] with singular values near 1, by Newton and Schulz's iteration in x's own type."""
    a, b, c = QUINTIC
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp_(min=eps)  # no singular value above 1
    for _ in range(iterations):
        gram = x @ x.mT  # [K, R, R]
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def by_shape(tensors: list[Tensor]) -> dict[tuple[int, ...], list[int]]:
    """Places of the tensors of each shape."""
    places: dict[tuple[int, ...], list[int]] = {}
    for place, tensor in enumerate(tensors):
        places.setdefault(tuple(tensor.shape), []).append(place)
    return places


@lru_cache(maxsize=64)
def hidden_names(names: tuple[str, ...], ranks: tuple[int, ...], patterns: tuple[str, ...] | None) -> frozenset[str]:
    """The matrices that map features to features: those that match a pattern, or by role.

    By role they are the leaves of two axes that are no embedding, head, or position.
    """
    shapes = dict(zip(names, ranks, strict=True))
    if patterns is None:
        return frozenset(n for n in names if shapes[n] == 2 and not NOT_HIDDEN.intersection(n.split(".")))
    found = matching(names, patterns)
    for name in found:
        if shapes[name] != 2:
            raise ValueError(f"{name} has {shapes[name]} axes, and Muon's matrices have 2; narrow matrices {patterns}")
    return found


def muon(
    schedule: Schedule | float,
    momentum: float = 0.95,
    weight_decay: float | Schedule = 0.05,
    *,
    nesterov: bool = True,
    iterations: int = 5,
    adjust: str = "match_rms_adamw",
    matrices: tuple[str, ...] | None = None,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    no_decay: tuple[str, ...] | None = None,
    lr_scales: Mapping[str, float] | None = None,
    wake: Mapping[str, int] | None = None,
) -> Muon:
    """Muon with a schedule or a constant rate; AdamW, with `betas` and `eps`, takes what is no hidden matrix.

    `adjust` "match_rms_adamw" makes steps as large as AdamW's, so that one rate does for both; "original" wants a
    larger one, and `lr_scales` that lower the rest. `matrices`: their name patterns; None chooses by role, see
    `hidden_names`. See `adamw` for `no_decay`, `lr_scales` and `wake`.
    """
    return Muon(
        schedule, weight_decay, no_decay, lr_scales, wake, momentum, nesterov, iterations, adjust, matrices, betas, eps
    )
