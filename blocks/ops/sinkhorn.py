"""Sinkhorn and Knopp's iteration: soft codes that share all prototypes evenly (Caron et al. 2020, SwAV, section 3.1).

Codes are diag(r) exp(scores / epsilon) diag(c). An iteration gives all prototypes, then all samples equal shares, and
changes nothing but the vectors r and c: it is two products of a matrix and a vector. Before the exponential, each
prototype's scores lose their largest, then each sample's: after it, every column and every row of the matrix has a 1.
So scores can be of any range, and the first c is that of the original matrix, to the last digit that counts. Scores of
known bounds that the exponential can bear are spared the search.
"""

import torch
from torch import Tensor

from blocks.collective import maximum, total, world
from blocks.ops.choose import Impl, choose
from blocks.ops.define import define

TINY = 1e-30  # smaller shares are as good as none; its inverse is a float32, also times a batch
WIDE = 60.0  # exp(-WIDE) times a share is well above TINY


@torch.no_grad()
def sinkhorn(
    scores: Tensor,
    epsilon: float | Tensor = 0.05,
    iterations: int = 3,
    counted: Tensor | None = None,
    bound: float | None = None,
    *,
    impl: Impl = "auto",
) -> Tensor:
    """Codes [..., B, K], rows that sum to 1, of scores [..., B, K] of samples against prototypes, on all processes.

    In float32 at least. An epsilon may be a tensor [], as a schedule makes it. Leading axes are problems of their own.
    Samples that are not `counted` (bool [B], by default all are) get a code, but no share of the prototypes; processes
    may have different B. Give a `bound` where no score can be above it, nor below -bound: that is faster, with an
    epsilon that is a number. Raises ValueError for fewer than 1 iteration.
    """
    if iterations < 1:
        raise ValueError(f"{iterations} iterations make no codes; use 1 or more (3 in SwAV)")
    which = choose(impl, scores, _unsupported(scores))
    if which == "plain":
        return sinkhorn_reference(scores, epsilon, iterations, counted)
    if which == "triton":
        problems = scores.reshape(scores.shape[:-2].numel(), *scores.shape[-2:])
        inverse = (torch.ones((), device=scores.device) / epsilon).float()
        return KERNEL(problems, inverse, iterations, counted, _borne(bound, epsilon)).view(scores.shape)
    codes = scores.new_empty(scores.shape, dtype=torch.promote_types(scores.dtype, torch.float32))
    for problem, out in zip(scores.reshape(-1, *scores.shape[-2:]), codes.view(-1, *scores.shape[-2:]), strict=True):
        rows = _stable(problem, 1 / epsilon, counted, _borne(bound, epsilon), out)
        _balance(out, rows, iterations, counted)
    return codes


@torch.no_grad()
def sinkhorn_reference(
    scores: Tensor, epsilon: float | Tensor = 0.05, iterations: int = 3, counted: Tensor | None = None
) -> Tensor:
    """`sinkhorn` in logarithms all through. Raises ValueError in several processes."""
    if world()[1] > 1:
        raise ValueError(f'{world()[1]} processes share their prototypes, and impl "plain" knows one; use "torch"')
    logs = scores.to(torch.promote_types(scores.dtype, torch.float32)) / epsilon
    left_out = torch.zeros_like(logs[..., :1], dtype=torch.bool) if counted is None else ~counted.unsqueeze(-1)
    for _ in range(iterations):
        logs = (logs - logs.masked_fill(left_out, -torch.inf).logsumexp(-2, keepdim=True)).log_softmax(-1)
    return logs.exp()


def _borne(bound: float | None, epsilon: float | Tensor) -> float | None:
    """The bound of scores if their exponentials can be made without a search for the largest, else None."""
    known = bound is not None and not isinstance(epsilon, Tensor) and 2 * bound / epsilon <= WIDE
    return bound if known else None


def _unsupported(scores: Tensor) -> str | None:
    """What the kernel cannot do for such scores."""
    if scores.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"{scores.dtype} is not one of float32, bfloat16, float16"
    return None


def _codes(
    scores: Tensor, inverse: Tensor, iterations: int, counted: Tensor | None = None, bound: float | None = None
) -> Tensor:
    from blocks.ops.kernels.sinkhorn import sinkhorn_codes

    return sinkhorn_codes(scores, inverse, iterations, counted, bound)


KERNEL = define(
    "sinkhorn(Tensor scores, Tensor inverse, int iterations, Tensor? counted, float? bound) -> Tensor",
    _codes,
    lambda scores, *_: scores.new_empty(scores.shape, dtype=torch.float32),
)


def _balance(matrix: Tensor, rows: Tensor, iterations: int, counted: Tensor | None) -> None:
    """Make codes of a matrix [B, K], in place; rows [B] is the first r."""
    for _ in range(iterations):
        columns = total(rows @ matrix).clamp_min_(TINY).reciprocal_()
        columns = columns / columns.max()  # or their scale would drift by K / B an iteration
        shares = (matrix @ columns).clamp_min_(TINY).reciprocal_()
        rows = shares if counted is None else shares * counted
    matrix.mul_(columns).mul_(shares.unsqueeze(-1))


def _stable(
    scores: Tensor, inverse: float | Tensor, counted: Tensor | None, bound: float | None, out: Tensor
) -> Tensor:
    """r [B], where r out is exp(scores inverse) but for a factor a column, and out [B, K] is written: numbers up to 1.

    Samples that are not counted have an r of 0.
    """
    if bound is not None:
        _line(out.new_full((1,), -bound) * inverse, scores, inverse, out).exp_()
        return out.new_ones(len(out)) if counted is None else counted.to(out.dtype)
    own = scores if counted is None else scores.masked_fill(~counted.unsqueeze(-1), -torch.inf)
    top = maximum(own.amax(0).to(out.dtype))
    low = _line(top * -inverse, scores, inverse, out).amax(-1, keepdim=True)
    out.sub_(low).exp_()
    rows = low.squeeze(-1).clamp_(max=0).exp_()  # only samples that are not counted are above 0
    return rows if counted is None else rows * counted


def _line(start: Tensor, scores: Tensor, slope: float | Tensor, out: Tensor) -> Tensor:
    """out = start + slope scores, in one pass; with a start [n], or scores of half precision were the common type."""
    if isinstance(slope, Tensor):
        return torch.addcmul(start, scores, slope, out=out)
    return torch.add(start, scores, alpha=slope, out=out)
