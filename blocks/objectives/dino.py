"""DINO (Caron et al. 2021): crops predict what a slow copy of the model, centred and sharpened, says of large crops."""

import attrs
import torch
from torch import Tensor

from blocks import tree
from blocks.block import Params
from blocks.collective import average
from blocks.notes import Memory, noted
from blocks.objectives.collapse import code_entropy, feature_std
from blocks.objectives.crops import Batch, crops_of, embed, project
from blocks.objectives.moments import note_moments
from blocks.objectives.self_supervised import Outcome, SelfSupervised
from blocks.objectives.supervised import at_least_float32, sample_keys
from blocks.objectives.teacher import at, follow_, is_momentum, scheduled
from blocks.objectives.temperature import is_temperature, is_temperature_or_schedule
from blocks.ops.cross_view import cross_view
from blocks.optim.ema import ema_update_
from blocks.optim.own_schedule import number_or_schedule
from blocks.optim.schedule import Schedule
from blocks.optim.skipping import zero_where


@attrs.frozen(eq=False)
class DINO(SelfSupervised):
    """Cross-entropy between the teacher's softmax of the first size's crops and the student's of all other crops.

    The model's head makes K logits (`DinoHead`). Published: momentum cosine(.996, 1) over the run, teacher_temp
    linear(.04, .07) over 30 epochs; the head's last layer sleeps in the first epoch. The centre is the running mean of
    the teacher's logits over all processes. Metrics: kl, the part of the loss that the student can mend;
    teacher_entropy over ln K, 1 where the teacher says nothing; code_entropy, 0 where it says the same of all.
    """

    momentum: float | Schedule = attrs.field(default=0.996, converter=number_or_schedule, validator=is_momentum)
    student_temp: float = attrs.field(default=0.1, validator=is_temperature)
    teacher_temp: float | Schedule = attrs.field(
        default=0.04, converter=number_or_schedule, validator=is_temperature_or_schedule
    )
    centre_momentum: float = attrs.field(default=0.9, validator=is_momentum)

    def __attrs_post_init__(self) -> None:
        num_logits(self.model.head)

    def remember(self, params: Params) -> Memory:
        """Also "teacher", a copy of the params, and "centre" [K], of zeros."""
        leaf = tree.leaves(params)[0]
        centre = new_centre(num_logits(self.model.head), leaf)
        return {**super().remember(params), "teacher": tree.clone(params), "centre": centre}

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
        codes = sharpened(logits, memory["centre"], temperature)
        loss = cross_view(z, codes, self.student_temp)
        metrics = teaching(loss, codes) | {"feature_std": feature_std(z[0])} | scheduled(teacher_temp=temperature)
        memory = noted(note_moments(memory, head=moments), centre=logits.flatten(0, 1).mean(0, keepdim=True))
        return Outcome(loss, memory, metrics, features[0].detach())

    @torch.no_grad()
    def teach(self, teacher: Params, crops: Tensor) -> Tensor:
        """The teacher's logits, in float32 at least: crops [b, A, 3, H, W] -> [A, b, K]. It drops nothing."""
        params = tree.cast(teacher, crops.dtype)
        features = embed(self.model, params, [crops], None)
        return at_least_float32(project(self.model.head, params["head"], features)[0])

    def carry_(
        self, params: Params, memory: Memory, notes: dict[str, Tensor], skip: Tensor | None
    ) -> dict[str, Tensor]:
        """Moves the teacher towards the params, the centre towards the batch's mean."""
        settle_centre_(memory["centre"], notes["centre"], self.centre_momentum, skip)
        return follow_(memory, params, self.momentum, skip)


def num_logits(head: object) -> int:
    """K of a head that makes logits. Raises ValueError for a model without one."""
    found = getattr(head, "out_features", None)
    if found is None:
        raise ValueError(f"head {head} has no out_features and so no logits; give the model a DinoHead")
    return found


def new_centre(num_logits: int, like: Tensor) -> Tensor:
    """The centre before the first step: zeros [K], in float32 at least."""
    return torch.zeros(num_logits, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device)


def sharpened(logits: Tensor, centre: Tensor, temperature: float | Tensor) -> Tensor:
    """softmax((logits - centre) / temperature): logits [..., K], centre [K] -> [..., K]; equation 1 and section 3.1."""
    return ((logits - centre) / temperature).softmax(-1)


def settle_centre_(centre: Tensor, means: Tensor, momentum: float, skip: Tensor | None) -> None:
    """Move the centre [K] in place towards the mean over micro-batches [k, K] and processes; equation 4."""
    (mean,) = zero_where(skip, [average(means.mean(0))])  # what is skipped may be not finite
    ema_update_(centre, mean, momentum, skip=skip)


def teaching(loss: Tensor, codes: Tensor) -> dict[str, Tensor]:
    """Metrics of a cross-entropy with codes [A, b, K]: kl, teacher_entropy, code_entropy."""
    entropy = torch.special.entr(codes).sum(-1).mean()
    most = torch.log(torch.full_like(entropy, max(codes.shape[-1], 2)))
    return {"kl": loss.detach() - entropy, "teacher_entropy": entropy / most, "code_entropy": code_entropy(codes)}
