"""Barlow Twins: the cross-correlation of two views' embeddings becomes the identity (Zbontar et al. 2021)."""

import attrs
import torch
from torch import Tensor

from blocks.block import Params
from blocks.checks import above_0, not_negative
from blocks.collective import total, world
from blocks.notes import Memory
from blocks.objectives.collapse import feature_std
from blocks.objectives.correlation import pairs, squared_norm, standardised
from blocks.objectives.crops import Batch, crops_of, embed, project
from blocks.objectives.moments import note_moments
from blocks.objectives.self_supervised import Outcome, SelfSupervised
from blocks.objectives.supervised import at_least_float32, sample_keys


@attrs.frozen(eq=False)
class BarlowTwins(SelfSupervised):
    """scale (sum_i (1 - C_ii)^2 + off_diagonal sum_{i != j} C_ij^2), the mean over pairs of views; equation 1.

    C [E, E] is the correlation of one view's embedding with another's over the batch of all processes. The weight of
    the off-diagonal is section 2.2's; the scale is the released code's, for LARS and its rate.
    """

    off_diagonal: float = attrs.field(default=0.0051, validator=not_negative)
    scale: float = attrs.field(default=0.024, validator=above_0)

    def outcome(self, params: Params, memory: Memory, batch: Batch, key: Tensor | None) -> Outcome:
        """Metrics: feature_std; agreement, the mean C_ii; redundancy, the root mean square C_ij of the rest."""
        keys = sample_keys(key, batch)
        features = embed(self.model, params, crops_of(batch), keys)
        z, moments = project(self.model.head, params.get("head"), features, separately=True)
        compared, views = pairs(z), [standardised(at_least_float32(view)) for view in z]
        rows = torch.stack([correlation(views[i], views[j]) for i, j in compared]).mean(0)
        on, off, agreement = rows.unbind()
        size = z.shape[-1]
        metrics = {"agreement": agreement, "redundancy": (off / max(size * (size - 1), 1)).clamp(min=0).sqrt()}
        metrics = {"feature_std": feature_std(z)} | {name: value.detach() for name, value in metrics.items()}
        loss = self.scale * (on + self.off_diagonal * off)
        return Outcome(loss, note_moments(memory, head=moments), metrics, features[0].detach())


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """[sum_i (1 - C_ii)^2, sum_{i != j} C_ij^2, mean C_ii] of standardised embeddings [b, E]: -> [3]."""
    count = len(a) * world()[1]
    diagonal = total((a * b).sum(0)) / count
    off = squared_norm(a, b) / count**2 - diagonal.square().sum()
    return torch.stack(((1 - diagonal).square().sum(), off, diagonal.mean()))
