"""AdamW (Loshchilov and Hutter 2019) with its state as a tree, by torch's fused kernel."""

import attrs
import torch
from torch import Tensor

from blocks import tree
from blocks.optim.names import decay_places, names_and_ranks, no_decay_names
from blocks.optim.optimizer import Optimizer, Schedule
from blocks.optim.schedule import constant
from blocks.tree import Tree


@attrs.frozen
class AdamW(Optimizer):
    """State {"exp_avg": {dotted name: tensor}, "exp_avg_sq": likewise, "count": int64 []}.

    Bit-equal to torch.optim.AdamW(fused=True).
    """

    schedule: Schedule
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    no_decay: tuple[str, ...] | None

    def init(self, params: Tree) -> Tree:
        """Moments of zero. Raises ValueError for params that the kernel cannot take, and for patterns without match."""
        flat = tree.flatten(params)
        for name, tensor in flat.items():
            if not (tensor.is_floating_point() and tensor.is_contiguous()):
                raise ValueError(f"{name} {tensor.dtype} {list(tensor.shape)} must be floating-point and contiguous")
        self.exempt(flat)
        count = torch.zeros((), dtype=torch.int64, device=next((t.device for t in flat.values()), None))
        return {
            "exp_avg": {name: torch.zeros_like(t) for name, t in flat.items()},
            "exp_avg_sq": {name: torch.zeros_like(t) for name, t in flat.items()},
            "count": count,
        }

    @torch.no_grad()
    def update_(self, params: Tree, grads: Tree, state: Tree, *, skip: Tensor | None = None) -> dict[str, Tensor]:
        """One update in place; returns {"lr": float64 []}, the rate of this update."""
        lr = self.schedule(state["count"])
        flat = tree.flatten(params)
        decaying, exempt = decay_places(*names_and_ranks(flat), self.no_decay)
        columns = [tree.leaves(t) for t in (flat, grads, state["exp_avg"], state["exp_avg_sq"])]
        step = (state["count"] + 1).float()
        kernel_lr = lr if lr.device.type == "cpu" else lr.float()  # what each device's kernel wants
        found_inf = None if skip is None else skip.float()
        for places, weight_decay in ((decaying, self.weight_decay), (exempt, 0.0)):
            params_, grads_, means, squares = [[column[place] for place in places] for column in columns]
            if params_:
                torch._fused_adamw_(
                    params_, grads_, means, squares, [], [step] * len(params_),
                    lr=kernel_lr, beta1=self.betas[0], beta2=self.betas[1], weight_decay=weight_decay, eps=self.eps,
                    amsgrad=False, maximize=False, found_inf=found_inf,
                )  # fmt: skip
        state["count"].add_(1 if skip is None else ~skip)
        return {"lr": lr}

    def exempt(self, flat: dict[str, Tensor]) -> frozenset[str]:
        """The names that do not decay."""
        return no_decay_names(*names_and_ranks(flat), self.no_decay)

    def describe(self, params: Tree) -> dict[str, str]:
        """{"blocks.0.attn.qkv.weight": "weight decay 0.05", "norm.bias": "no weight decay", ...}."""
        flat = tree.flatten(params)
        exempt = self.exempt(flat)
        return {n: "no weight decay" if n in exempt else f"weight decay {self.weight_decay:g}" for n in flat}


def adamw(
    schedule: Schedule | float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.05,
    no_decay: tuple[str, ...] | None = None,
) -> AdamW:
    """AdamW with a schedule or a constant rate.

    `no_decay`: name patterns of params that do not decay, each of which must match; None chooses by role, see `names`.
    """
    if not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas {betas} are not in [0, 1)")
    if eps < 0 or weight_decay < 0:
        raise ValueError(f"eps {eps} and weight_decay {weight_decay} must not be negative")
    if isinstance(schedule, (int, float)):
        schedule = constant(float(schedule))
    return AdamW(schedule, (betas[0], betas[1]), eps, weight_decay, None if no_decay is None else tuple(no_decay))
