"""MoCo v3: contrast predictions with a slow teacher's keys of the same batch, symmetrically (Chen, Xie & He 2021)."""

import attrs
import torch
from torch import Tensor

from blocks.collective import gather, world
from blocks.objectives.byol import BYOL
from blocks.objectives.crops import unit
from blocks.objectives.teacher import is_momentum_or_schedule
from blocks.objectives.temperature import is_temperature
from blocks.ops.queue_nce import log_sum_exp
from blocks.optim.own_schedule import number_or_schedule
from blocks.optim.schedule import Schedule


@attrs.frozen(eq=False)
class MoCoV3(BYOL):
    """2 T (InfoNCE(q1, k2) + InfoNCE(q2, k1)), algorithm 1: q = predictor(student), k = teacher, no queue.

    Params, teacher and the views it sees are BYOL's; a query's negatives are the keys of the same view of all other
    images, of all processes, without gradient. More than two views count by the mean over pairs. `momentum` grows from
    .99 to 1 by a cosine in the paper's code: give a schedule. ViT's patch projection stays frozen (section 4.2),
    positions are fixed sines (section 5). Weights start as the trunk says; it draws them by Glorot & Bengio 2010.
    """

    momentum: float | Schedule = attrs.field(
        default=0.99, converter=number_or_schedule, validator=is_momentum_or_schedule
    )
    temperature: float = attrs.field(default=0.2, validator=is_temperature)

    def compared(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """The loss of predictions [V, b, E] of the student's views and keys [A, b, E] of the teacher's."""
        return info_nce(unit(predictions), unit(targets), self.temperature)


def info_nce(q: Tensor, k: Tensor, temperature: float) -> Tensor:
    """4 T times the mean over samples and pairs (view v, key a != v) of -log softmax(q_v K_a^T / T) at the own key: [].

    q [V, b, E] and k [A, b, E] have length 1; K_a [B, E] are all processes' keys of view a. Raises ValueError without
    a pair, and for one image in all processes.
    """
    if len(q) < 2:
        raise ValueError(f"the batch has {len(q)} view of an image, and MoCo v3 compares two or more; see MultiCrop")
    if q.shape[1] * world()[1] < 2:
        raise ValueError("1 image in all processes has no other that it could be told from; use a larger batch")
    losses = [cross_entropy(torch.cat((q[:a], q[a + 1 :])), own, temperature) for a, own in enumerate(k)]
    return 4 * temperature * sum(losses, start=q.new_zeros(())) / len(losses)


def cross_entropy(q: Tensor, k: Tensor, temperature: float) -> Tensor:
    """The mean over queries [V, b, E] of the cross-entropy of picking the own one of all processes' keys [b, E]: []."""
    denominators = log_sum_exp(q.flatten(0, 1), gather(k), temperature)
    return denominators.mean() - (q * k).sum(-1).mean() / temperature
