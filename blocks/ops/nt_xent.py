"""NT-Xent (Chen et al. 2020, SimCLR, equation 1) of two or more views, among the images of all processes.

The scores of unit rows are symmetric, so each pair is made once: exp((s - 1) / T) serves both its rows. Strips of them
are made again for the gradient instead of kept. The kernel makes tiles of them on chip, at any temperature.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from blocks.collective import gather, world
from blocks.ops.choose import Impl, choose, no_room
from blocks.ops.define import define

STRIP = {"cpu": 1 << 22, "cuda": 1 << 24}  # scores at a time
LOWEST = 0.025  # temperature at which exp(-2 / T) is still a normal float32
WIDEST = 128  # numbers of a row, which the kernel holds whole: twice as many spill
SHARED = 1280  # bytes of shared memory for each of them, padded to a power of two


def nt_xent(z: Tensor, temperature: float, *, impl: Impl = "auto") -> Tensor:
    """Mean loss [] over this process's views z [V, b, E], rows of unit length, V >= 2, among all processes' images.

    Of image i in views v and w, with s = z z^T / T: -log(exp(s_iv,iw) / (exp(s_iv,iw) + sum over images j != i and all
    their views of exp(s_iv,jx))), mean over i and all v != w. For two views it is SimCLR's equation 1; with more, an
    image's other views do not count as negatives. float32 or float64.
    """
    which = choose(impl, z, lambda: _unsupported(z))
    if which == "plain" or (which == "torch" and temperature < LOWEST):
        return nt_xent_plain(z, temperature)
    rows = z.transpose(0, 1).flatten(0, 1)  # [b V, E], an image's views together
    if which == "triton":
        negatives = LogSums.apply(rows, own_first(rows.detach()), len(z), temperature)
        return over_positives(z, negatives.view(-1, len(z)).T, temperature)
    sums = NegativeSums.apply(rows, own_first(rows.detach()), len(z), temperature)
    return over_positives(z, (sums.log() + 1 / temperature).view(-1, len(z)).T, temperature)


def nt_xent_plain(z: Tensor, temperature: float) -> Tensor:
    """`nt_xent` with all scores in memory, its reference; right at any temperature."""
    everyone = gather(z, 1)  # [V, B, E]
    scores = torch.einsum("vbe,wce->vbwc", z, everyone) / temperature
    image = torch.arange(everyone.shape[1], device=z.device)
    own = image[world()[0] * z.shape[1] :][: z.shape[1], None] == image  # [b, B]
    negatives = scores.masked_fill(own[None, :, None], -torch.inf).flatten(2).logsumexp(2)
    return over_positives(z, negatives, temperature)


def _unsupported(z: Tensor) -> str | None:
    """What the kernel cannot do for such rows."""
    if z.dtype != torch.float32:
        return f"{z.dtype} is not float32"
    if z.shape[-1] > WIDEST:
        return f"rows of {z.shape[-1]} numbers are longer than {WIDEST}"
    if z.numel() == 0:
        return "there is no row"
    return no_room(z, SHARED * max(16, 1 << (z.shape[-1] - 1).bit_length()))


def over_positives(z: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """The mean over images and pairs of views of softplus(log-sum-exp of the negatives [V, b] - positive score): []."""
    shifts = range(1, len(z))  # einsum would make a matmul of each image
    positives = torch.stack([(z * z.roll(shift, 0)).sum(-1) for shift in shifts]) / temperature
    return F.softplus(negatives - positives, threshold=50).mean()  # the default threshold's error is 2e-9


def own_first(rows: Tensor) -> Tensor:
    """All processes' rows, this one's first: [m, ...] -> [M, ...]."""
    rank, count = world()
    return rows if count == 1 else gather(rows).roll(-rank * len(rows), 0)


class NegativeSums(torch.autograd.Function):
    """Sums [m] of exp((s - 1) / T) over the scores of rows [m, E] with everyone [M, E], an image's own left out.

    The rows are everyone's first m. Their gradient is the sum of what all processes say about them: the processes
    exchange not gradients of rows but one number a row.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(rows: Tensor, everyone: Tensor, views: int, temperature: float) -> Tensor:
        own, found = len(rows), torch.zeros_like(rows[:, 0])
        for start, end, terms in strips(everyone, own, views, temperature):
            found[start:end] += terms.sum(1)
            found[end:] += terms[:, end - start : own - start].sum(0)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int, float], output: Tensor) -> None:
        _, everyone, ctx.views, ctx.temperature = inputs
        ctx.save_for_backward(everyone)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (everyone,) = ctx.saved_tensors
        own, scaled = len(grad), own_first(grad)[:, None] * everyone
        both = torch.cat((everyone, scaled), 1)  # row i's gradient: sum over j of (grad i + grad j) term ij everyone j
        pulled = torch.zeros_like(both[:own])
        for start, end, terms in strips(everyone, own, ctx.views, ctx.temperature):
            pulled[start:end] += terms @ both[start:]
            pulled[end:] += terms[:, end - start : own - start].T @ both[start:end]
        by_own, by_others = pulled.chunk(2, 1)
        return torch.addcmul(by_others, grad[:, None], by_own) / ctx.temperature, None, None, None


def strips(everyone: Tensor, own: int, views: int, temperature: float) -> Iterator[tuple[int, int, Tensor]]:
    """(start, end, exp((s - 1) / T) of rows start:end with the rows from start on), 0 within an image; over own rows.

    What lies left of a strip is in an earlier one, transposed.
    """
    fit = STRIP.get(everyone.device.type, STRIP["cpu"]) // len(everyone) // views
    rows, shift = min(max(1, fit) * views, own), everyone.new_full((), -1 / temperature)
    scaled = everyone[:own] / temperature
    for start in range(0, own, rows):
        end = min(start + rows, own)
        terms = torch.addmm(shift, scaled[start:end], everyone[start:].T).exp_()
        images = terms[:, : end - start].unflatten(0, (-1, views)).unflatten(2, (-1, views))
        images.diagonal(dim1=0, dim2=2).zero_()
        yield start, end, terms


class LogSums(torch.autograd.Function):
    """log of the sums [m] of exp(s / T) over the scores of rows [m, E] with everyone [M, E], by the kernel.

    Rows, everyone and the gradient are `NegativeSums`'; here the processes exchange two numbers a row.
    """

    @staticmethod
    def forward(rows: Tensor, everyone: Tensor, views: int, temperature: float) -> Tensor:
        return FORWARD(rows, everyone, views, 1 / temperature)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int, float], output: Tensor) -> None:
        rows, everyone, ctx.views, ctx.temperature = inputs
        ctx.save_for_backward(rows, everyone, output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        rows, everyone, sums = ctx.saved_tensors
        both = own_first(sums), own_first(grad)
        return BACKWARD(rows, everyone, *both, ctx.views, 1 / ctx.temperature), None, None, None

    @staticmethod
    def vmap(info: Any, dims: tuple, rows: Tensor, everyone: Tensor, *rest: Any) -> tuple[Tensor, int]:
        """A call for each batch of images: they do not know of each other."""
        each = [
            [x] * info.batch_size if d is None else x.unbind(d) for x, d in zip((rows, everyone), dims, strict=False)
        ]
        return torch.stack([LogSums.apply(*pair, *rest) for pair in zip(*each, strict=True)]), 0


def _log_sums(rows: Tensor, everyone: Tensor, views: int, inverse: float) -> Tensor:
    from blocks.ops.kernels.nt_xent import log_sums

    return log_sums(rows, everyone, views, inverse)


def _log_sums_backward(
    rows: Tensor, everyone: Tensor, sums: Tensor, grads: Tensor, views: int, inverse: float
) -> Tensor:
    from blocks.ops.kernels.nt_xent import log_sums_backward

    return log_sums_backward(rows, everyone, sums, grads, views, inverse)


FORWARD = define(
    "nt_xent_log_sums(Tensor rows, Tensor everyone, int views, float inverse) -> Tensor",
    _log_sums,
    lambda rows, *_: rows.new_empty(len(rows)),
)
BACKWARD = define(
    "nt_xent_log_sums_backward(Tensor rows, Tensor everyone, Tensor sums, Tensor grads, int views, float inverse)"
    " -> Tensor",
    _log_sums_backward,
    lambda rows, *_: torch.empty_like(rows, memory_format=torch.contiguous_format),
)
