"""Operations that look at each channel's values as a whole: uint8 [B, H, W, 3] -> uint8, by a table per channel."""

import torch
from torch import Tensor

LEVELS = 256


def auto_contrast(images: Tensor, _: Tensor) -> Tensor:
    """Each channel stretched: its darkest value to 0, its brightest to 255; a flat channel stays."""
    low, high = (extreme((1, 2)).double()[..., None] for extreme in (images.amin, images.amax))
    span = (high - low).clamp(min=1)
    scale = torch.full_like(span, 255) / span  # torch's 255 / span rounds twice
    levels = torch.arange(LEVELS, dtype=torch.float64, device=images.device)
    stretched = (levels * scale + -low * scale).clamp(0, 255)
    return look_up(images, torch.where(high > low, stretched, levels))


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """Each channel's histogram made level, in whole numbers; a channel with too few values stays."""
    counts = histograms(images)
    below = counts.cumsum(-1, dtype=counts.dtype) - counts  # pixels darker than each level
    step = (below * (counts > 0)).amax(-1, keepdim=True) // 255  # of all pixels but the brightest level's
    level = (below + step // 2) // step.clamp(min=1)
    return look_up(images, torch.where(step > 0, level.clamp(max=255), torch.arange(LEVELS, device=images.device)))


def histograms(images: Tensor) -> Tensor:
    """How often each value comes in each channel: uint8 [B, H, W, 3] -> int32 [B, 3, 256]."""
    places = _places(images).flatten()
    counts = torch.zeros(len(images) * 3 * LEVELS, dtype=torch.int32, device=images.device)
    return counts.scatter_add_(0, places, torch.ones_like(counts[:1]).expand(len(places))).view(-1, 3, LEVELS)


def look_up(images: Tensor, tables: Tensor) -> Tensor:
    """Every value replaced by its entry: uint8 [B, H, W, 3], tables [B, 3, 256] -> uint8 [B, H, W, 3]."""
    return tables.to(torch.uint8).flatten()[_places(images)]


def _places(images: Tensor) -> Tensor:
    """Where in [B, 3, 256], flattened, each value lies: [B, H, W, 3] -> int64 [B, H, W, 3]."""
    starts = torch.arange(len(images) * 3, device=images.device) * LEVELS
    return images + starts.view(-1, 1, 1, 3)
