"""Random masks over a grid of patches, each sample's from its own key."""

import math

import attrs
import torch
from torch import Tensor

from blocks.checks import is_interval, is_within
from blocks.random import fold_in, uniform

ATTEMPTS = 10  # failures in a row after which BEiT's masking gives up


def random_keep(keys: Tensor, num_patches: int, num_keep: int) -> Tensor:
    """Places of M = num_keep patches of N, every choice as likely, in order: keys [B, 2] -> int64 [B, M].

    Those of the M smallest of N uniforms (He et al. 2022, MAE, section 3). Raises ValueError unless 0 < M <= N.
    """
    if not 0 < num_keep <= num_patches:
        raise ValueError(f"{num_keep} patches of {num_patches} cannot be kept; keep 1 to {num_patches}")
    order = uniform(keys, (num_patches,)).argsort(dim=-1, stable=True)
    return order[:, :num_keep].sort(-1).values


def masked_places(keep: Tensor, num_patches: int) -> Tensor:
    """Whether a patch is masked, not among those kept: int64 [B, M] -> bool [B, N]."""
    everything = torch.ones(keep.shape[0], num_patches, dtype=torch.bool, device=keep.device)
    return everything.scatter(1, keep, False)


def block_mask(
    keys: Tensor,
    grid: tuple[int, int],
    targets: Tensor,
    *,
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
    proposals: int = 40,
) -> Tensor:
    """Masks of random rectangles: keys [B, 2], at most `targets` [B] masked patches of a grid -> bool [B, H, W].

    BEiT's blockwise masking (Bao et al. 2022, algorithm 1, as its code and iBOT's have it): a rectangle of an area
    uniform between a ninth of the shorter side's square and what is left, of an aspect ratio uniform in its logarithm
    (height over width), is added where it fits and adds some patches but not too many; ten misfits in a row end it. So
    does the last of `proposals`, which hardly any mask reaches. It falls short of its target by a few patches.
    """
    low, log_aspect = (min(grid) // 3) ** 2, (math.log(aspect[0]), math.log(aspect[1]))
    draws = uniform(keys, (proposals, 4))  # area, aspect, top, left
    mask = torch.zeros(len(keys), *grid, dtype=torch.bool, device=keys.device)
    misfits = torch.zeros(len(keys), dtype=torch.int64, device=keys.device)
    for area, shape, top, left in draws.permute(1, 2, 0):  # [B] each
        room = targets - mask.sum((1, 2))
        height, width = _sides(low + area * (room - low), shape * (log_aspect[1] - log_aspect[0]) + log_aspect[0])
        rectangle = _inside(height, top, grid[0])[:, :, None] & _inside(width, left, grid[1])[:, None]
        added = (rectangle & ~mask).sum((1, 2))
        fits = (height < grid[0]) & (width < grid[1]) & (added > 0) & (added <= room) & (misfits < ATTEMPTS)
        mask = mask | rectangle & fits[:, None, None]
        misfits = torch.where(fits, 0, misfits + 1)
    return mask


def _sides(area: Tensor, log_aspect: Tensor) -> tuple[Tensor, Tensor]:
    """Whole height and width of rectangles of about these areas, height over width e^log_aspect: [B] -> int64 [B]."""
    side, stretch = area.clamp(min=0).sqrt(), (log_aspect / 2).exp()
    return (side * stretch).round().long(), (side / stretch).round().long()


def _inside(length: Tensor, draw: Tensor, size: int) -> Tensor:
    """Whether a place of 0 to size is in a stretch that starts uniformly where it fits: [B], [B] -> bool [B, size]."""
    start = (draw * (size - length + 1)).long()
    places = torch.arange(size, device=length.device)
    return (places >= start[:, None]) & (places < (start + length)[:, None])


def is_range(_: object, attribute: attrs.Attribute, value: tuple[float, float]) -> None:
    """attrs validator of a range within [0, 1]."""
    if not is_interval(value, 0, 1):
        raise ValueError(f"{attribute.name} {value!r} is not a range of shares; use 0 <= low <= high <= 1")


@attrs.frozen
class BlockMasks:
    """Which patches iBOT masks: in a `share` of the crops, of a ratio that is uniform in `ratio` (section 4.1).

    Raises ValueError for what are no shares, and for an aspect ratio (height over width) of nothing.
    """

    share: float = attrs.field(default=0.5)
    ratio: tuple[float, float] = attrs.field(default=(0.1, 0.5), validator=is_range)
    aspect: tuple[float, float] = attrs.field(default=(0.3, 1 / 0.3))

    @share.validator
    def _share(self, _: attrs.Attribute, value: float) -> None:
        if not is_within(value, 0, 1) or value == 0:
            raise ValueError(f"share {value!r} masks no crop, or more than all; use 0 < share <= 1")

    @aspect.validator
    def _aspect(self, _: attrs.Attribute, value: tuple[float, float]) -> None:
        if not is_interval(value, 0) or value[0] == 0:
            raise ValueError(
                f"aspect {value!r} is not a range of height over width; use 0 < low <= high, as (0.3, 1/0.3)"
            )

    def most(self, num_patches: int) -> int:
        """The most patches, of so many, that a mask can have; one at least."""
        return max(int(self.ratio[1] * num_patches), 1)

    def draw(self, keys: Tensor, grid: tuple[int, int]) -> Tensor:
        """keys [B, 2] -> bool [B, H W]."""
        masked, ratio = uniform(fold_in(keys, 0), (2,)).unbind(-1)
        low, high = self.ratio
        targets = (low + (high - low) * ratio) * (grid[0] * grid[1]) * (masked < self.share)
        return block_mask(keys, grid, targets, aspect=self.aspect).flatten(1)
