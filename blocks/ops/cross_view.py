"""Cross-entropy of soft targets between views of the same images, with its own gradient.

SwAV (Caron et al. 2020, equations 1 and 2), DINO (Caron et al. 2021, equation 3) and iBOT (Zhou et al. 2022, equation
2) are one sum over pairs: a code of one view, and the scores of another that should predict it. The codes that a view
predicts are summed first, so that it takes one softmax, however many pairs it is in.
"""

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from blocks.ops.choose import Impl, choose
from blocks.ops.cross_entropy import RowCrossEntropy, unsupported
from blocks.ops.tiles import row_tiles

Pairs = tuple[tuple[int, ...], ...]  # for each view of the scores, the places of the codes that it predicts
Tile = tuple[Tensor, Tensor, slice]


def cross_view(
    scores: Tensor, codes: Tensor, temperature: float, views: Sequence[int] | None = None, *, impl: Impl = "auto"
) -> Tensor:
    """Mean over codes, other views and samples of -sum_k code log softmax(scores / temperature): -> [].

    scores [V, B, K]; codes [A, B, K], of the views `views`, by default the first A; they get no gradient. Raises
    ValueError where there is no other view to predict a code.
    """
    views = range(len(codes)) if views is None else views
    if len(views) != len(codes) or len(set(views) & set(range(len(scores)))) < len(views):
        raise ValueError(
            f"views {list(views)} of {len(codes)} codes are no {len(codes)} of the scores' {len(scores)} views"
        )
    pairs = others(len(scores), views)
    return soft_cross_entropy(scores, codes, pairs, temperature, impl=impl).mean(1).sum() / sum(map(len, pairs))


def others(num_views: int, views: Sequence[int]) -> Pairs:
    """For each of num_views, the places in `views` of the views that it is not."""
    if num_views < 2:
        raise ValueError(f"{num_views} view has no other whose code it could predict; give the loader 2 or more crops")
    return tuple(tuple(place for place, view in enumerate(views) if view != v) for v in range(num_views))


def soft_cross_entropy(
    scores: Tensor, codes: Tensor, pairs: Pairs, temperature: float, *, impl: Impl = "auto"
) -> Tensor:
    """-sum_k (sum of a view's codes) log softmax(scores / temperature), by row: [V, N, K], [A, N, K] -> [V, N].

    In float32 at least, at any range. It keeps scores and codes alone for its backward; codes get no gradient.
    """
    which, codes = choose(impl, scores, unsupported(scores, codes)), codes.detach()
    if which == "plain":
        return soft_cross_entropy_reference(scores, codes, pairs, temperature)
    if which == "torch":
        return SoftCrossEntropy.apply(scores, codes, pairs, temperature)[0]
    counts = tuple(places.count(a) for places in pairs for a in range(len(codes)))
    return RowCrossEntropy.apply(scores, codes, counts, 1 / temperature, 1.0, 0.0)[0]


def soft_cross_entropy_reference(scores: Tensor, codes: Tensor, pairs: Pairs, temperature: float) -> Tensor:
    """`soft_cross_entropy` as the papers write it, one log-softmax a pair."""
    losses = [torch.zeros_like(view[:, 0]) for view in scores]
    for v, places in enumerate(pairs):
        for place in places:
            losses[v] = losses[v] - (codes[place] * (scores[v] / temperature).log_softmax(-1)).sum(-1)
    return torch.stack(losses)


class SoftCrossEntropy(torch.autograd.Function):
    """-> (losses, log sums of exp(scores / temperature)), [V, N] each."""

    @staticmethod
    def forward(scores: Tensor, codes: Tensor, pairs: Pairs, temperature: float) -> tuple[Tensor, Tensor]:
        dtype = torch.promote_types(scores.dtype, torch.float32)
        losses, log_sums = (scores.new_zeros(scores.shape[:-1], dtype=dtype) for _ in range(2))
        for v, rows, target, mass in _targets(scores, codes, pairs):
            losses[v, rows], log_sums[v, rows] = _losses(scores[v, rows].to(dtype), target, mass, 1 / temperature)
        return losses, log_sums

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        scores, codes, ctx.pairs, ctx.temperature = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(scores, codes, output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        scores, codes, log_sums = ctx.saved_tensors
        if torch.is_grad_enabled():  # torch.func, or a derivative of this one is wanted
            return _differentiable(scores, codes, ctx.pairs, grad, ctx.temperature), None, None, None
        make = torch.empty_like if all(ctx.pairs) else torch.zeros_like
        out = make(scores, memory_format=torch.contiguous_format)
        for v, rows, target, mass in _targets(scores, codes, ctx.pairs):
            shift = (mass.log() - log_sums[v, rows]).unsqueeze(-1)
            _gradient_(out[v, rows], scores[v, rows], target, shift, grad[v, rows, None], 1 / ctx.temperature)
        return out, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], scores: Tensor, codes: Tensor, *rest: Any) -> tuple[Any, Any]:
        """Rows do not know of each other: what is mapped over becomes more of them."""
        size = info.batch_size
        many = [
            x.unsqueeze(1).expand(-1, size, -1, -1) if dim is None else x.movedim(dim, 1)
            for x, dim in zip((scores, codes), in_dims, strict=False)
        ]
        outputs = SoftCrossEntropy.apply(*(x.flatten(1, 2) for x in many), *rest)
        return tuple(x.unflatten(1, (size, -1)) for x in outputs), (1, 1)


def _targets(scores: Tensor, codes: Tensor, pairs: Pairs) -> Iterator[tuple[int, slice, Tensor, Tensor]]:
    """(view, rows, what they should predict [n, K], its sums [n]) all over the scores; made once for like views."""
    dtype = torch.promote_types(scores.dtype, torch.float32)
    for rows in row_tiles(scores):
        for places in dict.fromkeys(pairs):
            if places:
                target = reduce(torch.add, [codes[place, rows].to(dtype) for place in places])
                mass = target.sum(-1)
                yield from ((v, rows, target, mass) for v, own in enumerate(pairs) if own == places)


def _losses(scores: Tensor, target: Tensor, mass: Tensor, inverse: float) -> tuple[Tensor, Tensor]:
    """Of rows [n, K]: (losses, log sums), [n] each."""
    top = scores.amax(-1) * inverse
    logits = torch.add(-top.unsqueeze(-1), scores, alpha=inverse)
    hit = torch.linalg.vecdot(target, logits)
    log_sum = logits.exp_().sum(-1).log_()
    return mass * log_sum - hit, log_sum + top


def _gradient_(out: Tensor, scores: Tensor, target: Tensor, shift: Tensor, grad: Tensor, inverse: float) -> None:
    """out = (softmax * sum of target - target) * grad * inverse: rows [n, K]; shift and grad are [n, 1]."""
    at_once = out if out.dtype == shift.dtype else None  # a half precision is rounded to once, at the end
    weights = torch.add(shift, scores.to(shift.dtype), alpha=inverse, out=at_once)
    out.copy_(weights.exp_().sub_(target).mul_(grad * inverse))


def _differentiable(scores: Tensor, codes: Tensor, pairs: Pairs, grad: Tensor, temperature: float) -> Tensor:
    """The gradient of all rows in plain steps."""
    nothing = torch.zeros_like(codes[0], dtype=grad.dtype)
    target = torch.stack(
        [reduce(torch.add, [codes[place].to(grad.dtype) for place in places], nothing) for places in pairs]
    )
    weights = (scores.to(grad.dtype) / temperature).softmax(-1) * target.sum(-1, keepdim=True)
    return ((weights - target) * (grad / temperature).unsqueeze(-1)).to(scores.dtype)
