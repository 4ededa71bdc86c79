"""The moving average of leaves: params' EMA, a teacher."""

from collections.abc import Sequence

import torch
from torch import Tensor

from blocks.ops.choose import Impl, choose
from blocks.ops.define import define
from blocks.ops.scattered import scattered


@torch.no_grad()
def moving_average_(
    old: Sequence[Tensor],
    new: Sequence[Tensor],
    keep: float | Tensor,
    skip: Tensor | None = None,
    *,
    impl: Impl = "auto",
) -> None:
    """old <- keep old + (1 - keep) new, in place, leaf by leaf; where skip (bool []) is true nothing changes.

    `keep` may be a tensor [], as from a schedule, which then lies on the leaves' device, as skip does.
    """
    if not old:
        return
    chosen = choose(impl, old[0], lambda: unsupported(old, new, keep, skip))
    if chosen == "triton":
        number, tensor = (0.0, keep) if isinstance(keep, Tensor) else (keep, None)
        KERNEL(list(old), list(new), number, tensor, skip)
    elif chosen == "plain":
        _plain_(old, new, keep, skip)
    else:
        _by_torch_(old, new, keep, skip)


def _plain_(old: Sequence[Tensor], new: Sequence[Tensor], keep: float | Tensor, skip: Tensor | None) -> None:
    """The formula, in the leaves' own precision: the reference."""
    for average, x in zip(old, new, strict=True):
        moved = keep * average + (1.0 - keep) * x
        average.copy_(moved if skip is None else torch.where(skip, average, moved))


def _by_torch_(old: Sequence[Tensor], new: Sequence[Tensor], keep: float | Tensor, skip: Tensor | None) -> None:
    """PyTorch's lerp of all leaves. Of a weight that is a tensor it makes a call for each leaf: on a GPU that is time
    of the host, some 5 us each.
    """
    if skip is None and not isinstance(keep, Tensor):
        torch._foreach_lerp_(list(old), list(new), 1.0 - keep)
        return
    weight = torch.as_tensor(1.0 - keep, dtype=torch.float64) if skip is None else (~skip).double().mul_(1.0 - keep)
    weights = {dtype: weight.to(dtype) for dtype in {t.dtype for t in old}}
    torch._foreach_lerp_(list(old), list(new), [weights[t.dtype] for t in old])


def unsupported(
    old: Sequence[Tensor], new: Sequence[Tensor], keep: float | Tensor = 0.0, skip: Tensor | None = None
) -> str | None:
    """What the kernel cannot do for such leaves."""
    if [x.shape for x in old] != [x.shape for x in new]:
        return "the leaves differ in shape"
    if any(isinstance(x, Tensor) and x.device != old[0].device for x in (keep, skip)):
        return "keep and skip do not lie on the leaves' device"
    if any(x.dtype != torch.float32 for x in (*old, *new)):
        return "not all leaves are float32"
    return scattered((*old, *new), old[0].device)


def _move_(old: list[Tensor], new: list[Tensor], number: float, tensor: Tensor | None, skip: Tensor | None) -> None:
    from blocks.ops.kernels.moving_average import move_

    move_(old, new, number, tensor, skip)


KERNEL = define(
    "moving_average_(Tensor(a!)[] old, Tensor[] new, float number, Tensor? keep, Tensor? skip) -> ()",
    _move_,
    lambda *_: None,
)
