"""SimCLR: tell an image's other views from all other images of the batch (Chen et al. 2020)."""

import attrs
from torch import Tensor

from blocks.block import Params
from blocks.collective import world
from blocks.notes import Memory
from blocks.objectives.collapse import feature_std
from blocks.objectives.crops import Batch, crops_of, embed, project, unit
from blocks.objectives.moments import note_moments
from blocks.objectives.self_supervised import Outcome, SelfSupervised
from blocks.objectives.supervised import sample_keys
from blocks.objectives.temperature import is_temperature
from blocks.ops.nt_xent import nt_xent


@attrs.frozen(eq=False)
class SimCLR(SelfSupervised):
    """NT-Xent, equation 1, among the images of all processes, whose gradients are exchanged too.

    Any number of crops: each pair of views v != w of image i counts -log(exp(s_iv,iw) / (exp(s_iv,iw) + sum over
    images j != i and all their views of exp(s_iv,jx))), s being cosines over the temperature. All views meet a head's
    batch norm together.
    """

    temperature: float = attrs.field(default=0.1, validator=is_temperature)

    def outcome(self, params: Params, memory: Memory, batch: Batch, key: Tensor | None) -> Outcome:
        """Metrics: feature_std of the embeddings. Raises ValueError for one view, or one image in all processes."""
        keys = sample_keys(key, batch)
        features = embed(self.model, params, crops_of(batch), keys)
        check_pairs(*features.shape[:2])
        z, moments = project(self.model.head, params.get("head"), features)
        z = unit(z)
        loss, metrics = nt_xent(z, self.temperature), {"feature_std": feature_std(z)}
        return Outcome(loss, note_moments(memory, head=moments), metrics, features[0].detach())


def check_pairs(views: int, images: int) -> None:
    """Raises ValueError where there is nothing to compare."""
    if views < 2 or images * world()[1] < 2:
        raise ValueError(f"{views} views of {images} images: SimCLR compares two or more views of two or more images")
