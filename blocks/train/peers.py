"""What a step keeps between calls, none of which changes its result: its place among the processes, and scratch."""

import attrs
import torch
from torch import Tensor

from blocks.collective import world
from blocks.train.buckets import BucketedSum
from blocks.train.gradient import LeafCopies
from blocks.tree import Tree


@attrs.define(eq=False)
class Peers:
    """The processes that share a batch, the leaf copies of a donated state, and the sums of gradients."""

    rank: int
    world_size: int
    sums: BucketedSum | None = None
    kept: LeafCopies | None = None
    fitting: tuple | None = None  # params and optimizer state, by names and axes, that were found to fit together
    checked: bool = False  # what objective and optimizer return, in the first step

    @staticmethod
    def of_world() -> "Peers":
        """All of torch.distributed's, or this one alone where that is not connected."""
        return Peers(*world())

    def copies(
        self, params: Tree, flat: dict[str, Tensor], dtype: torch.dtype | None, frozen: tuple[str, ...], keep: bool
    ) -> LeafCopies:
        """Leaf copies of params, of which `flat` has the leaves by dotted name.

        `keep` them where params are updated in place: the next step finds the same.
        """
        if self.kept is not None and self.kept.dtype is dtype and self.kept.stand_for(flat):
            return self.kept
        made = LeafCopies(params, dtype, frozen)
        self.kept = made if keep else None
        return made

    def begin(self, copies: LeafCopies, carried: list[Tensor] | None, ride: Tensor) -> None:
        """The gradients that come to the copies are summed over the processes, on top of `carried`; the numbers `ride`
        [M] too.
        """
        params = copies.originals
        if self.sums is not None and not self.sums.fits(params, len(ride)):
            self.sums.release()
            self.sums = None
        if self.sums is None:
            self.sums = BucketedSum(params, len(ride))
        self.sums.begin(copies.copies, carried, ride)

    def finish(self) -> tuple[list[Tensor], Tensor, Tensor]:
        """(the sums leaf by leaf, their norm, the riders' sums), valid until the next `begin`."""
        assert self.sums is not None, "finish without begin"
        found = *self.sums.finish(), self.sums.ridden
        if self.kept is None:
            self.sums.release()
        return found
