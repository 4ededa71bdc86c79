"""Which operations of a plan can be done to a batch in one reading of its pixels."""

from collections.abc import Iterator

import torch
from torch import Tensor

from blocks.data.augment.ops import Op
from blocks.data.augment.plan import Plan

ALONE = (  # a pixel by itself, but for contrast's mean grey, of which a kernel knows one
    Op.INVERT,
    Op.POSTERIZE,
    Op.SOLARIZE,
    Op.SOLARIZE_ADD,
    Op.COLOR,
    Op.CONTRAST,
    Op.BRIGHTNESS,
    Op.HUE,
    Op.GRAYSCALE,
)


def stages(plan: Plan) -> Iterator[tuple[Plan, Plan]]:
    """Parts of a plan in their order: operations on pixels alone [B, k], then one other [B, 1]; either may do nothing.

    No picture has more than one contrast in a part.
    """
    alone = torch.isin(plan.ops, torch.tensor(ALONE))
    others, contrasts = ~alone & (plan.ops != Op.NOTHING), plan.ops == Op.CONTRAST
    start, length = 0, plan.ops.shape[1]
    for column in range(length):
        if contrasts[:, start : column + 1].sum(1).gt(1).any():
            yield _part(plan, alone, start, column), _part(plan, others, column, column)
            start = column
        if others[:, column].any():
            yield _part(plan, alone, start, column + 1), _part(plan, others, column, column + 1)
            start = column + 1
    if start < length or not length:
        yield _part(plan, alone, start, length), _part(plan, others, length, length)


def _part(plan: Plan, kept: Tensor, start: int, end: int) -> Plan:
    ops, args, kept = (x[:, start:end] for x in (plan.ops, plan.args, kept))
    return Plan(ops * kept, args * kept)


def whole_args(plan: Plan) -> Tensor:
    """What a kernel takes for arguments: the mask of posterizing, and the added number and the hue's step whole."""
    bits = 256 - torch.exp2(8 - plan.args.clamp(0, 8))
    args = torch.where(plan.ops == Op.POSTERIZE, bits.trunc(), plan.args)
    args = torch.where(plan.ops == Op.SOLARIZE_ADD, args.trunc(), args)
    return torch.where(plan.ops == Op.HUE, (plan.args.double() * 255).trunc().float(), args)
