"""InfoNCE against a long queue (He et al. 2020, MoCo, equation 1), where no score is ever stored.

The loss's denominator is the log-sum-exp of an attention call with keys = values = queue, and that call's output, the
queue's mean under the softmax, is its gradient. There is no kernel of ours: that call is one, and what ours could save
is its second reading of the queue (docs/kernels.md).
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

TILE = 2048  # entries of the queue at a time, where there is no fused attention
QUERIES = 64  # of a fused kernel's block
# blocks of queries and of the queue that keep the cores busy, on an H200 two on each of 132; more cost memory
BLOCKS = {"cpu": 16, "cuda": 256}


def queue_nce(q: Tensor, k: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """-log(exp(q k / T) / (exp(q k / T) + sum over the queue of exp(q . / T))): q, k [B, E], queue [K, E] -> [B].

    The queue gets no gradient.
    """
    positive = (q * k).sum(-1) / temperature
    return F.softplus(log_sum_exp(q, queue, temperature) - positive, threshold=50)  # the default's error is 2e-9


def queue_nce_plain(q: Tensor, k: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """`queue_nce` with all scores [B, 1 + K] in memory, its reference."""
    scores = torch.cat(((q * k).sum(-1, keepdim=True), q @ queue.detach().T), 1) / temperature
    return F.cross_entropy(scores, scores.new_zeros(len(q), dtype=torch.int64), reduction="none")


def log_sum_exp(q: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """log of the sum over the queue of exp(q . / T): q [B, E], queue [K, E] -> [B]; without gradient to the queue."""
    return LogSumExp.apply(q, queue.detach(), temperature)[0]


class LogSumExp(torch.autograd.Function):
    """(q [B, E], queue [K, E], T) -> (log-sum-exps [B], the queue's means under the softmaxes [B, E])."""

    @staticmethod
    def forward(q: Tensor, queue: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        return attended(q, queue, 1 / temperature)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: tuple[Tensor, Tensor]) -> None:
        ctx.temperature = inputs[2]
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        (mean,) = ctx.saved_tensors
        return (grad / ctx.temperature).to(mean.dtype)[:, None] * mean, None, None

    @staticmethod
    def vmap(info: Any, dims: tuple, q: Tensor, queue: Tensor, temperature: float) -> tuple[Any, tuple[int, int]]:
        """More queries of one queue are one call; more queues are a call each."""
        if dims[0] is not None and dims[1] is None:
            q = q.movedim(dims[0], 0)
            found = LogSumExp.apply(q.flatten(0, 1), queue, temperature)
            return tuple(x.unflatten(0, q.shape[:2]) for x in found), (0, 0)
        rows = [[x] * info.batch_size if d is None else x.unbind(d) for x, d in ((q, dims[0]), (queue, dims[1]))]
        each = [LogSumExp.apply(one, its_queue, temperature) for one, its_queue in zip(*rows, strict=True)]
        return tuple(torch.stack(x) for x in zip(*each, strict=True)), (0, 0)


def attended(q: Tensor, queue: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """(log-sum-exps [B], means [B, E]) by fused attention, tile by tile where there is none for these tensors."""
    kernel = fused(q, queue)
    if kernel is None:
        return tiled(q, queue, scale)
    parts = parts_of(q, queue)
    split = queue.contiguous().view(1, parts, -1, queue.shape[1])
    lse, means = kernel(q.contiguous().expand(1, parts, -1, -1), split, scale)
    if parts == 1:
        return lse[0, 0], means[0, 0]
    whole = lse[0].logsumexp(0)
    return whole, torch.einsum("pb,pbe->be", (lse[0] - whole).exp(), means[0].to(whole.dtype)).to(q.dtype)


def fused(q: Tensor, queue: Tensor) -> Any:
    """The attention kernel that also returns the log-sum-exp, for such queries and keys; None where there is none."""
    if q.dtype != queue.dtype:
        return None
    if q.device.type == "cpu" and q.dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        return cpu_attention
    aligned = q.shape[1] % 8 == 0
    if q.device.type == "cuda" and aligned and q.dtype in (torch.float32, torch.bfloat16, torch.float16):
        return cuda_attention
    return None


def cpu_attention(q: Tensor, k: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """(log-sum-exp [1, h, B], output) of attention with values = keys."""
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, k, scale=scale)
    return lse, out


def cuda_attention(q: Tensor, k: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """(log-sum-exp [1, h, B], output) of attention with values = keys."""
    out, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, k, None, True, scale=scale)
    return lse[..., : q.shape[2]], out  # the kernel pads the queries to a multiple of 32


def parts_of(q: Tensor, queue: Tensor) -> int:
    """In how many parts the queue is attended to at once, as if they were heads: few queries alone are little work."""
    wanted = max(1, BLOCKS[q.device.type] // -(-len(q) // QUERIES))
    return math.gcd(len(queue), 1 << (wanted.bit_length() - 1))


def tiled(q: Tensor, queue: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """`attended` for every device and type, in float32 at least: a running maximum, sum and mean over tiles."""
    wide = torch.promote_types(q.dtype, torch.float32)
    scaled = q.to(wide) * scale
    top = scaled.new_full((len(q),), -torch.inf)
    total, mean = torch.zeros_like(top), torch.zeros_like(scaled)
    for tile in queue.split(TILE):
        tile = tile.to(wide)
        scores = scaled @ tile.T
        before, top = top, torch.maximum(top, scores.amax(1))
        weights, shrink = scores.sub_(top[:, None]).exp_(), (before - top).exp()
        total = total * shrink + weights.sum(1)
        mean = torch.addmm(mean * shrink[:, None], weights, tile)
    return top + total.log(), (mean / total[:, None]).to(q.dtype)
