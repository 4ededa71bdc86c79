"""VICReg: views alike, dimensions spread and uncorrelated (Bardes, Ponce & LeCun 2022)."""

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from blocks.block import Params
from blocks.checks import not_negative
from blocks.collective import average, total, world
from blocks.notes import Memory
from blocks.objectives.collapse import feature_std
from blocks.objectives.correlation import pairs, squared_norm
from blocks.objectives.crops import Batch, crops_of, embed, project
from blocks.objectives.moments import note_moments
from blocks.objectives.self_supervised import Outcome, SelfSupervised
from blocks.objectives.supervised import at_least_float32, sample_keys

EPS = 1e-4  # under the root of the variance: equation 2's


@attrs.frozen(eq=False)
class VICReg(SelfSupervised):
    """invariance s(Z, Z') + variance (v(Z) + v(Z')) + covariance (c(Z) + c(Z')): equation 6, its weights section 4.2's.

    s is the mean square between two views' embeddings, over samples and, as in algorithm 1, dimensions; v the mean of
    max(0, 1 - deviation) over dimensions; c the sum of squared covariances over dimensions. Deviations and covariances
    are those of the batch of all processes. Of more than two views, it is the mean over pairs.
    """

    invariance: float = attrs.field(default=25.0, validator=not_negative)
    variance: float = attrs.field(default=25.0, validator=not_negative)
    covariance: float = attrs.field(default=1.0, validator=not_negative)

    def outcome(self, params: Params, memory: Memory, batch: Batch, key: Tensor | None) -> Outcome:
        """Metrics: feature_std, and the three terms before their weights."""
        keys = sample_keys(key, batch)
        features = embed(self.model, params, crops_of(batch), keys)
        z, moments = project(self.model.head, params.get("head"), features, separately=True)
        views = at_least_float32(z)
        alike = torch.stack([F.mse_loss(views[i], views[j]) for i, j in pairs(z)]).mean()
        spread, tied = 2 * torch.stack([spread_and_tied(view) for view in views]).mean(0)  # two views': their sum
        loss = self.invariance * alike + self.variance * spread + self.covariance * tied
        terms = {"invariance": alike, "variance": spread, "covariance": tied}
        metrics = {"feature_std": feature_std(z)} | {name: value.detach() for name, value in terms.items()}
        return Outcome(loss, note_moments(memory, head=moments), metrics, features[0].detach())


def spread_and_tied(z: Tensor) -> Tensor:
    """[v(Z), c(Z)] of one view's embeddings [b, E]: equations 1 and 4: -> [2]."""
    count = len(z) * world()[1]
    z = z - average(z.mean(0))
    var = total(z.square().sum(0)) / (count - 1)  # [E]
    short = F.relu(1 - (var + EPS).sqrt()).mean()
    off = squared_norm(z, z) / (count - 1) ** 2 - var.square().sum()
    return torch.stack((short, off / z.shape[1]))
