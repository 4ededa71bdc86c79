"""Cross-entropy of labels: integers or probabilities, smoothed or not, row by row.

The kernel reads the scores once each way and keeps nothing of their size. It serves the losses between views too, see
`blocks.ops.cross_view`.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from blocks.ops.choose import Impl, choose
from blocks.ops.define import define

HALVES = (torch.bfloat16, torch.float16)
IGNORED = -100  # a label that costs nothing, as in torch


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0, *, impl: Impl = "auto") -> Tensor:
    """The mean over rows of -sum_c target log softmax(logits), in float32 at least: logits [N, C], labels -> [].

    Labels are int64 [N] or probabilities [N, C], taken as they are; the target is (1 - smoothing) of them + smoothing
    / C. Rows labelled -100 do not count, as in torch. The kernel gives probabilities no gradient: torch's form does.
    """
    which = choose(impl, logits, _unsupported(logits, labels))
    if which == "torch":
        wide = logits.float() if logits.dtype in HALVES else logits
        soft = labels.to(wide.dtype) if labels.is_floating_point() else labels
        return F.cross_entropy(wide, soft, label_smoothing=label_smoothing)
    losses = (row_losses if which == "triton" else row_losses_plain)(logits, labels, label_smoothing)
    return losses.mean() if labels.is_floating_point() else losses.sum() / (labels != IGNORED).sum()


def row_losses(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """The losses of `cross_entropy` by the kernel, [N]; 0 where a label is -100."""
    counts, targets = ((1,), labels[None]) if labels.is_floating_point() else ((), labels)
    spread = label_smoothing / logits.shape[-1]
    return RowCrossEntropy.apply(logits[None], targets, counts, 1.0, 1.0 - label_smoothing, spread)[0][0]


def row_losses_plain(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """The losses of `cross_entropy` with the log-probabilities in memory, its reference."""
    wide = logits.float() if logits.dtype in HALVES else logits
    counts, targets = ((1,), labels[None]) if labels.is_floating_point() else ((), labels)
    target = target_of(wide[None], targets, counts, 1.0 - label_smoothing, label_smoothing / logits.shape[-1])[0]
    return -(target * wide.log_softmax(-1)).sum(-1)


def _unsupported(logits: Tensor, labels: Tensor) -> str | None:
    """What the kernel cannot do for such tensors."""
    if labels.requires_grad:
        return "the labels want a gradient"
    if logits.ndim != 2 or labels.shape != logits.shape[: labels.ndim]:
        return f"logits {list(logits.shape)} and labels {list(labels.shape)} are not [N, C] and [N] or [N, C]"
    return unsupported(logits, labels if labels.is_floating_point() else None)


def unsupported(scores: Tensor, codes: Tensor | None) -> str | None:
    """What the kernel cannot do for scores [.., K] and such codes."""
    for x in (scores, codes):
        if x is not None and x.dtype not in (torch.float32, *HALVES):
            return f"{x.dtype} is not one of float32, bfloat16, float16"
    return "there is no class" if scores.shape[-1] == 0 else None


def target_of(scores: Tensor, targets: Tensor, counts: tuple[int, ...], keep: float, spread: float) -> Tensor:
    """What scores [V, N, K] should predict, [V, N, K] in their type: see `RowCrossEntropy`."""
    if counts:
        table = scores.new_tensor(counts).view(len(scores), len(targets))
        return torch.einsum("va,ank->vnk", table, targets.to(scores.dtype)) * keep + spread
    known = (targets != IGNORED).to(scores.dtype)[:, None]
    hot = (targets[:, None] == torch.arange(scores.shape[-1], device=scores.device)).to(scores.dtype)
    return (known * (hot * keep + spread)).expand_as(scores)


class RowCrossEntropy(torch.autograd.Function):
    """-> (-sum_k target log softmax(scores inverse), log sums of exp(scores inverse)), float32 [V, N] each, by kernel.

    Scores are [V, N, K]; the target is keep * codes + spread: of codes [A, N, K], each as often as counts, V x A
    numbers, says, or without counts of labels int64 [N]. Only scores get a gradient.
    """

    @staticmethod
    def forward(
        scores: Tensor, targets: Tensor, counts: tuple[int, ...], inverse: float, keep: float, spread: float
    ) -> tuple[Tensor, Tensor]:
        return FORWARD(scores, targets, counts, inverse, keep, spread)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        scores, targets, *ctx.numbers = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(scores, targets, output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        scores, targets, log_sums = ctx.saved_tensors
        counts, inverse, keep, spread = ctx.numbers
        if torch.is_grad_enabled():  # torch.func, or a derivative of this one is wanted
            wide = scores.float()
            target = target_of(wide, targets, counts, keep, spread)
            slope = (wide * inverse).softmax(-1) * target.sum(-1, keepdim=True) - target
            found = (slope * (grad * inverse).unsqueeze(-1)).to(scores.dtype)
        else:
            found = BACKWARD(scores, targets, counts, log_sums, grad, inverse, keep, spread)
        return found, None, None, None, None, None

    @staticmethod
    def vmap(info: Any, dims: tuple[Any, ...], scores: Tensor, targets: Tensor, *rest: Any) -> tuple[Any, Any]:
        """Rows do not know of each other: what is mapped over becomes more of them."""
        size, axes = info.batch_size, (1, 0 if targets.ndim - (dims[1] is not None) == 1 else 1)
        many = [
            (x.unsqueeze(axis).expand(*x.shape[:axis], size, *x.shape[axis:]) if dim is None else x.movedim(dim, axis))
            for x, dim, axis in zip((scores, targets), dims, axes, strict=False)
        ]
        outputs = RowCrossEntropy.apply(*(x.flatten(a, a + 1) for x, a in zip(many, axes, strict=True)), *rest)
        return tuple(x.unflatten(1, (size, -1)) for x in outputs), (1, 1)


def _forward(
    scores: Tensor, targets: Tensor, counts: list[int], inverse: float, keep: float, spread: float
) -> tuple[Tensor, Tensor]:
    from blocks.ops.kernels.cross_entropy import cross_entropy_forward

    return cross_entropy_forward(scores, targets, tuple(counts), inverse, keep, spread)


def _backward(
    scores: Tensor, targets: Tensor, counts: list[int], log_sums: Tensor, grad: Tensor, *numbers: float
) -> Tensor:
    from blocks.ops.kernels.cross_entropy import cross_entropy_backward

    return cross_entropy_backward(scores, targets, tuple(counts), log_sums, grad, *numbers)


FORWARD = define(
    "cross_entropy_forward(Tensor scores, Tensor targets, int[] counts, float inverse, float keep, float spread)"
    " -> (Tensor, Tensor)",
    _forward,
    lambda scores, *_: tuple(scores.new_empty(scores.shape[:2], dtype=torch.float32) for _ in range(2)),
)
BACKWARD = define(
    "cross_entropy_backward(Tensor scores, Tensor targets, int[] counts, Tensor log_sums, Tensor grad, float inverse,"
    " float keep, float spread) -> Tensor",
    _backward,
    lambda scores, *_: torch.empty_like(scores, memory_format=torch.contiguous_format),
)
