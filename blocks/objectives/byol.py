"""BYOL: predict a slow teacher's embedding of another view, without negatives (Grill et al. 2020)."""

import attrs
import torch
from torch import Tensor

from blocks import tree
from blocks.block import Block, Params
from blocks.notes import Memory
from blocks.objectives.collapse import feature_std
from blocks.objectives.crops import Batch, crops_of, embed, project, unit
from blocks.objectives.moments import note_moments
from blocks.objectives.self_supervised import Outcome, SelfSupervised
from blocks.objectives.supervised import sample_keys
from blocks.objectives.teacher import follow_, is_momentum_or_schedule
from blocks.optim.own_schedule import number_or_schedule
from blocks.optim.schedule import Schedule
from blocks.random import fold_in

PREDICTOR = 3  # its place after the model's parts, whose keys are 0 to 2


@attrs.frozen(eq=False)
class BYOL(SelfSupervised):
    """2 - 2 cos(predictor(z), z') for the student's z of a view and the teacher's z' of another, both ways added.

    Equations 2 and 3. The teacher sees the crops of the first size, the student all; more than two views count by the
    mean over pairs. The teacher is the average of the model's params, moved once a step by `momentum`, a number or a
    schedule of the step: 0.996 to 1 by a cosine in section 3.3. Batch norms meet each view on its own.
    """

    predictor: Block
    momentum: float | Schedule = attrs.field(
        default=0.996, converter=number_or_schedule, validator=is_momentum_or_schedule
    )

    def parts(self) -> dict[str, Block | None]:
        """The head and the predictor."""
        return {**super().parts(), "predictor": self.predictor}

    def fresh(self, key: Tensor) -> Params:
        """The model's params, and the predictor's below "predictor"."""
        return {**self.model.init(key), "predictor": self.predictor.init(fold_in(key, PREDICTOR))}

    def remember(self, params: Params) -> Memory:
        """Also "teacher": a copy of the model's params."""
        teacher = {name: node for name, node in params.items() if name != "predictor"}
        return {**super().remember(params), "teacher": tree.clone(teacher)}

    def evaluated(self, memory: Memory) -> dict[str, Params]:
        """Params in memory that are worth a look too."""
        return {"teacher": memory["teacher"]}

    def outcome(self, params: Params, memory: Memory, batch: Batch, key: Tensor | None) -> Outcome:
        """Metrics: feature_std of the student's embeddings."""
        groups = crops_of(batch)
        keys = sample_keys(key, batch)
        features = embed(self.model, params, groups, keys)
        z, of_head = project(self.model.head, params.get("head"), features, separately=True)
        predictions, of_predictor = project(self.predictor, params["predictor"], z, separately=True)
        loss = self.compared(predictions, self.targets(memory["teacher"], groups[0]))
        memory = note_moments(memory, head=of_head, predictor=of_predictor)
        return Outcome(loss, memory, {"feature_std": feature_std(z)}, features[0].detach())

    def compared(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """The loss of predictions [V, b, E] of the student's views and targets [A, b, E] of the teacher's."""
        return distance(predictions, targets)

    @torch.no_grad()
    def targets(self, teacher: Params, crops: Tensor) -> Tensor:
        """The teacher's embeddings of crops [b, A, 3, H, W]: [A, b, E]."""
        teacher = tree.cast(teacher, crops.dtype)
        features = embed(self.model, teacher, [crops], None)
        return project(self.model.head, teacher.get("head"), features, separately=True)[0]

    def carry_(
        self, params: Params, memory: Memory, notes: dict[str, Tensor], skip: Tensor | None
    ) -> dict[str, Tensor]:
        """Move the teacher; {"teacher_momentum"} where that is scheduled."""
        return follow_(memory, params, self.momentum, skip)


def distance(predictions: Tensor, targets: Tensor) -> Tensor:
    """2 (2 - 2 cos), the mean over samples and pairs of views: predictions [V, b, E], targets [A, b, E] -> [].

    Target a and prediction v != a are a pair; targets are those of the first A views. Raises ValueError without a pair.
    """
    views, of_teacher = len(predictions), len(targets)
    if views < 2:
        raise ValueError(f"the batch has {views} view of an image, and BYOL compares two or more; see MultiCrop")
    q, k = unit(predictions), unit(targets)
    cosines = (q * k.sum(0)).sum() - (q[:of_teacher] * k).sum()
    return 4 - 4 * cosines / (of_teacher * (views - 1) * q.shape[1])
