"""Batch normalisation of rows, by their own moments or by those of all processes' rows."""

import torch
from torch import Tensor

from blocks.collective import gather, world

Normalised = tuple[Tensor, Tensor]


def batch_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Normalised:
    """x [n, C] by the moments of all processes' rows, n each -> (the same normalised, those moments [2, C]).

    These are the mean and the unbiased variance, float32 at least, without gradient (Ioffe & Szegedy 2015). weight and
    bias [C] scale and shift; both or none.
    """
    return (alone if world()[1] == 1 else over_processes)(x, weight, bias, eps)


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type of moments: float32 at least."""
    return torch.promote_types(dtype, torch.float32)


def alone(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Normalised:
    """The same by the moments of this process's rows alone, in one kernel."""
    if weight is None:  # without one the kernel would keep the moments of bfloat16 in bfloat16
        weight, bias = (fill(x.shape[1], dtype=wide(x.dtype), device=x.device) for fill in (torch.ones, torch.zeros))
    y, mean, scale = torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, eps)
    var = (scale.detach() ** -2 - eps).clamp(min=0) * (x.shape[0] / (x.shape[0] - 1))
    return y, torch.stack((mean.detach(), var))


def over_processes(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Normalised:
    """The same in plain operations; the moments come from each process's (Chan et al. 1979, for equal counts)."""
    rows = x.to(wide(x.dtype))
    means, variances = gather(torch.stack(torch.var_mean(rows, 0, correction=0)[::-1])[None]).unbind(1)  # [W, C]
    mean = means.mean(0)
    var = variances.mean(0) + (means - mean).square().mean(0)
    y = (rows - mean) * (var + eps).rsqrt()
    y = y if weight is None or bias is None else torch.addcmul(bias, y, weight)
    count = x.shape[0] * world()[1]
    return y.to(x.dtype), torch.stack((mean, var * (count / (count - 1)))).detach()
