"""The state of a run: all tensors that a run needs to go on."""

import attrs
from torch import Tensor

from blocks.tree import Tree


@attrs.frozen(eq=False)
class State:
    """What `step` takes and returns; every field is a tree of tensors.

    `key` stays the same over the run (each step folds its number in); `step` counts all steps, `skipped` the
    latest ones in a row whose loss or gradient was not finite, save where lowering the loss scale may help. `ema` is {}
    where no average is kept, `loss_scale` {} except in float16. `optimizer` knows the trained params only.
    """

    params: Tree
    optimizer: Tree
    memory: Tree
    ema: Tree
    step: Tensor  # int64 []
    key: Tensor  # int32 [2]
    skipped: Tensor  # int64 []
    loss_scale: Tree = attrs.field(factory=dict)
