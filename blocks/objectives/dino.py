"""DINO (Caron et al. 2021): crops predict what a slow copy of the model, centred and sharpened, says of large crops."""

from typing import Literal

import attrs
import torch
from torch import Tensor

from blocks import tree
from blocks.block import Params
from blocks.checks import not_negative, one_of
from blocks.notes import Memory, noted
from blocks.objectives.centring import CENTRINGS, new_centre, settle_centre_, taught_codes
from blocks.objectives.collapse import code_entropy, feature_std
from blocks.objectives.crops import Batch, crops_of, embed, project
from blocks.objectives.koleo import koleo
from blocks.objectives.moments import note_moments
from blocks.objectives.self_supervised import Outcome, SelfSupervised
from blocks.objectives.supervised import at_least_float32, sample_keys
from blocks.objectives.teacher import at, follow_, is_momentum, is_momentum_or_schedule, scheduled
from blocks.objectives.temperature import is_temperature, is_temperature_or_schedule
from blocks.ops.cross_view import cross_view
from blocks.optim.own_schedule import number_or_schedule
from blocks.optim.schedule import Schedule


@attrs.frozen(eq=False)
class DINO(SelfSupervised):
    """Cross-entropy between the teacher's softmax of the first size's crops and the student's of all other crops.

    The model's head makes K logits (`DinoHead`). Published: momentum cosine(.996, 1) over the run, teacher_temp
    linear(.04, .07) over 30 epochs; the head's last layer sleeps in the first epoch. The centre is the running mean of
    the teacher's logits over all processes; centring="sinkhorn" shares the K places evenly instead. `koleo_weight`
    times `koleo` of the student's features of the first size's crops is added: with 0.1, and sinkhorn for its larger
    models, it is DINOv2's (Oquab et al. 2024, section 4). Metrics: kl, the part of the loss that the student can mend;
    teacher_entropy over ln K, 1 where the teacher says nothing; code_entropy, 0 where it says the same of all; koleo.
    """

    momentum: float | Schedule = attrs.field(
        default=0.996, converter=number_or_schedule, validator=is_momentum_or_schedule
    )
    student_temp: float = attrs.field(default=0.1, validator=is_temperature)
    teacher_temp: float | Schedule = attrs.field(
        default=0.04, converter=number_or_schedule, validator=is_temperature_or_schedule
    )
    centre_momentum: float = attrs.field(default=0.9, validator=is_momentum)
    centring: Literal["mean", "sinkhorn"] = attrs.field(default="mean", kw_only=True, validator=one_of(CENTRINGS))
    koleo_weight: float = attrs.field(default=0.0, kw_only=True, validator=not_negative)

    def __attrs_post_init__(self) -> None:
        num_logits(self.model.head)

    def remember(self, params: Params) -> Memory:
        """Also "teacher", a copy of the params, and "centre" [K], of zeros, unless Sinkhorn needs none."""
        memory = {**super().remember(params), "teacher": tree.clone(params)}
        if self.centring == "mean":
            memory["centre"] = new_centre(num_logits(self.model.head), tree.leaves(params)[0])
        return memory

    def evaluated(self, memory: Memory) -> dict[str, Params]:
        """Params in memory that are worth a look too: the teacher's, the better ones (section 3.1)."""
        return {"teacher": memory["teacher"]}

    def outcome(self, params: Params, memory: Memory, batch: Batch, key: Tensor | None) -> Outcome:
        """The loss of V >= 2 crops, of which the A of crops.0 are the teacher's; notes the mean of its logits."""
        groups = crops_of(batch)
        keys = sample_keys(key, batch)
        features = embed(self.model, params, groups, keys)
        z, moments = project(self.model.head, params["head"], features)
        logits = self.teach(memory["teacher"], groups[0])
        temperature = at(self.teacher_temp, memory["step"])
        codes = taught_codes(logits, memory.get("centre"), temperature)
        loss = cross_view(z, codes, self.student_temp)
        metrics = teaching(loss, codes) | {"feature_std": feature_std(z[0])} | scheduled(teacher_temp=temperature)
        near, nearness = self.keep_apart(features[: len(logits)])
        memory = note_moments(memory, head=moments)
        if "centre" in memory:
            memory = noted(memory, centre=logits.flatten(0, 1).mean(0, keepdim=True))
        return Outcome(loss + near, memory, metrics | nearness, features[0].detach())

    @torch.no_grad()
    def teach(self, teacher: Params, crops: Tensor) -> Tensor:
        """The teacher's logits, in float32 at least: crops [b, A, 3, H, W] -> [A, b, K]. It drops nothing."""
        params = tree.cast(teacher, crops.dtype)
        features = embed(self.model, params, [crops], None)
        return at_least_float32(project(self.model.head, params["head"], features)[0])

    def keep_apart(self, features: Tensor) -> tuple[Tensor | float, dict[str, Tensor]]:
        """(what features [A, b, D] that are near each other add to the loss, as a metric before it is weighted)."""
        if not self.koleo_weight:
            return 0.0, {}
        near = koleo(features)
        return self.koleo_weight * near, {"koleo": near.detach()}

    def carry_(
        self, params: Params, memory: Memory, notes: dict[str, Tensor], skip: Tensor | None
    ) -> dict[str, Tensor]:
        """Moves the teacher towards the params, the centre towards the batch's mean."""
        if "centre" in memory:
            settle_centre_(memory["centre"], notes["centre"], self.centre_momentum, skip)
        return follow_(memory, params, self.momentum, skip)


def num_logits(head: object) -> int:
    """K of a head that makes logits. Raises ValueError for a model without one."""
    found = getattr(head, "out_features", None)
    if found is None:
        raise ValueError(f"head {head} has no out_features and so no logits; give the model a DinoHead")
    return found


def teaching(loss: Tensor, codes: Tensor) -> dict[str, Tensor]:
    """Metrics of a cross-entropy with codes [A, b, K]: kl, teacher_entropy, code_entropy."""
    entropy = torch.special.entr(codes).sum(-1).mean()
    most = torch.log(torch.full_like(entropy, max(codes.shape[-1], 2)))
    return {"kl": loss.detach() - entropy, "teacher_entropy": entropy / most, "code_entropy": code_entropy(codes)}
