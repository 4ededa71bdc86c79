"""Distillation: labels and a teacher's logits at once (Touvron et al. 2021, section 4; Hinton et al. 2015)."""

from collections.abc import Callable
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from blocks import tree
from blocks.block import Block, Params
from blocks.checks import is_within
from blocks.objectives.supervised import Batch, at_least_float32, is_smoothing, labels_of, sample_keys, top1
from blocks.objectives.temperature import is_temperature

Teacher = Callable[[Params, Tensor], Tensor]  # a block, or anything else from (params, images) to logits


def soft(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """tau^2 KL(teacher || student) of softmaxes at temperature tau, mean over samples: [B, C], [B, C] -> [].

    DeiT, equation 2. DeiT's code divides by the number of classes too, which takes most of the teacher's weight away.
    """
    student, teacher = F.log_softmax(student / tau, -1), F.log_softmax(teacher / tau, -1)
    return tau**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def hard(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """Cross-entropy with the teacher's choice as the label, whatever tau: [B, C], [B, C] -> []. DeiT, equation 3."""
    return F.cross_entropy(student, teacher.argmax(-1))


KINDS = {"soft": soft, "hard": hard}


@attrs.frozen(eq=False)
class Distillation:
    """(1 - alpha) cross-entropy with the labels + alpha `kind` with the teacher's logits.

    A model with `logits` (a `DistilledModel`) answers the labels with the first and the teacher with the second head,
    another with its only one. The teacher is a block and its params, or `from_module`'s; it is evaluated without a key,
    in its params' own type, whatever the student computes in, on images that a student in half precision has rounded.
    Its params are the memory: a state is all that a step needs, and a checkpoint brings its teacher along.
    """

    model: Block
    teacher: Teacher
    teacher_params: Params = attrs.field(repr=False)
    kind: str = attrs.field(default="hard")
    alpha: float = attrs.field(default=0.5)
    tau: float = attrs.field(default=1.0)
    label_smoothing: float = attrs.field(default=0.0, validator=is_smoothing)
    draws: bool = attrs.field(init=False)

    @kind.validator
    def _known(self, _: attrs.Attribute, value: str) -> None:
        if value not in KINDS:
            raise ValueError(f"kind {value!r} is not known; use {' or '.join(KINDS)}")

    @alpha.validator
    def _a_share(self, _: attrs.Attribute, value: float) -> None:
        if not is_within(value, 0, 1):
            raise ValueError(f"alpha {value!r} is not in [0, 1]: the teacher's share of the loss")

    @tau.validator
    def _a_temperature(self, field: attrs.Attribute, value: float) -> None:
        is_temperature(self, field, value)
        if self.kind == "hard" and value != 1:
            raise ValueError(f'tau {value} has no effect on kind "hard"; leave it at 1 or use kind="soft"')

    @draws.default
    def _draws(self) -> bool:
        return getattr(self.model, "is_random", True)

    def init(self, key: Tensor) -> tuple[Any, Any]:
        """(params of the model, memory {"teacher": a copy of the teacher's params}), on the key's device."""
        copies = tree.map(lambda t: t.detach().to(key.device, copy=True), self.teacher_params)
        return self.model.init(key), {"teacher": copies}

    def loss(self, params: Any, memory: Any, batch: Batch, key: Tensor | None) -> tuple[Tensor, Any, dict[str, Tensor]]:
        """(loss [], memory, metrics) of images [B, 3, H, W] and labels, int64 [B] or probabilities [B, C].

        Metrics: agreement, the share of samples on which the distillation head chooses as the teacher does; for integer
        labels also teacher_top1, and top1 of the mean of the two heads, which is the model's answer in evaluation.
        Raises ValueError for a teacher of other classes.
        """
        images, labels = batch["images"], labels_of(batch)
        by_label, by_teacher = self._student(params, images, sample_keys(key, batch))
        teacher = self._teacher(memory["teacher"], images, by_teacher.shape)
        label_loss = F.cross_entropy(by_label, labels, label_smoothing=self.label_smoothing)
        teacher_loss = KINDS[self.kind](by_teacher, teacher, self.tau)
        metrics = {"agreement": top1(by_teacher, teacher.argmax(-1))}
        if not labels.is_floating_point():
            metrics |= {"top1": top1(by_label + by_teacher, labels), "teacher_top1": top1(teacher, labels)}
        return (1 - self.alpha) * label_loss + self.alpha * teacher_loss, memory, metrics

    def _student(self, params: Params, images: Tensor, keys: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logits that answer the labels and the teacher, [B, C] each."""
        both = getattr(self.model, "logits", None)
        if both is None:
            return (at_least_float32(self.model(params, images, key=keys)),) * 2
        by_label, by_teacher = both(params, images, key=keys)
        return at_least_float32(by_label), at_least_float32(by_teacher)

    def _teacher(self, params: Params, images: Tensor, shape: torch.Size) -> Tensor:
        """The teacher's logits of the given shape [B, C], without a graph."""
        with torch.no_grad():
            logits = self.teacher(params, images.to(floating_type(params, images.dtype)))
        if not isinstance(logits, Tensor) or logits.shape != shape:
            found = list(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
            raise ValueError(f"the teacher gives {found}, the student logits {list(shape)}; they need the same classes")
        return at_least_float32(logits)


def floating_type(params: Params, default: torch.dtype) -> torch.dtype:
    """The type of the first floating-point leaf."""
    return next((leaf.dtype for leaf in tree.leaves(params) if leaf.is_floating_point()), default)
