"""How a teacher's logits become codes that do not all go to one place: DINO's centre, or Sinkhorn's even shares."""

import torch
from torch import Tensor

from blocks.collective import average, total
from blocks.ops.sinkhorn import sinkhorn
from blocks.optim.ema import ema_update_
from blocks.optim.skipping import zero_where

CENTRINGS = ("mean", "sinkhorn")
ITERATIONS = 3  # DINOv2's of Sinkhorn's


def taught_codes(
    logits: Tensor, centre: Tensor | None, temperature: float | Tensor, counted: Tensor | None = None
) -> Tensor:
    """Codes [..., K], rows that sum to 1, of logits [..., K]: `sharpened` with a centre [K], else `even_codes`."""
    return even_codes(logits, temperature, counted) if centre is None else sharpened(logits, centre, temperature)


def sharpened(logits: Tensor, centre: Tensor, temperature: float | Tensor) -> Tensor:
    """softmax((logits - centre) / temperature): logits [..., K], centre [K] -> [..., K]; equation 1 and section 3.1."""
    return ((logits - centre) / temperature).softmax(-1)


def even_codes(logits: Tensor, temperature: float | Tensor, counted: Tensor | None = None) -> Tensor:
    """Codes [..., K] that share K places evenly among all processes' rows (Oquab et al. 2024, DINOv2, section 4).

    Rows that are not `counted` (bool [...]) have no say in it. Where none is, in no process, all are.
    """
    if counted is not None:
        counted = (counted | (total(counted.sum()) == 0)).flatten()
    return sinkhorn(logits.flatten(0, -2), temperature, ITERATIONS, counted).view(logits.shape)


def new_centre(num_logits: int, like: Tensor) -> Tensor:
    """The centre before the first step: zeros [K], in float32 at least."""
    return torch.zeros(num_logits, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device)


def settle_centre_(centre: Tensor, means: Tensor, momentum: float, skip: Tensor | None) -> None:
    """Move the centre [K] in place towards the mean over micro-batches [k, K] and processes; equation 4."""
    (mean,) = zero_where(skip, [average(means.mean(0))])  # what is skipped may be not finite
    ema_update_(centre, mean, momentum, skip=skip)
