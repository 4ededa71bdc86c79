"""What was drawn for each picture of a batch: the same plan for every home of the augmentation."""

from typing import Protocol

import attrs
import torch
from torch import Tensor


@attrs.frozen(eq=False)
class Plan:
    """Operations in their order and their arguments: ops int64 [B, K] (see `Op`; 0 does nothing), args float32 [B, K].

    Both live on the CPU. Raises ValueError if the shapes differ.
    """

    ops: Tensor
    args: Tensor

    def __attrs_post_init__(self) -> None:
        if self.ops.shape != self.args.shape or self.ops.ndim != 2:
            shapes = f"ops {list(self.ops.shape)} and args {list(self.args.shape)}"
            raise ValueError(f"{shapes} do not make a plan; both are [B, K]")

    def __len__(self) -> int:
        return len(self.ops)

    def then(self, other: "Plan") -> "Plan":
        """This plan, and after it another one for the same pictures: K adds up."""
        return Plan(torch.cat((self.ops, other.ops), 1), torch.cat((self.args, other.args), 1))


class Policy(Protocol):
    """How plans are drawn; an attrs class of settings."""

    def draw(self, keys: Tensor) -> Plan:
        """One row per key [B, 2] on the CPU; each row depends on its own key alone."""
        ...
