"""Random erasing: boxes of noise in normalised images, on whatever device they lie."""

import functools
import math

import attrs
import torch
from torch import Tensor

from blocks.checks import count, is_interval, is_within, one_of
from blocks.random import fold_in, uniform

MODES = ("pixel", "const", "rand")
TRIES = 10  # timm's and torchvision's
BOXES, NOISE = 0, 1  # what a sample's folded keys are for; box n has its noise from NOISE + n


def _probability(_, attribute, value):
    if not is_within(value, 0, 1):
        raise ValueError(f"{attribute.name} {value!r} is not between 0 and 1: how often a box is erased (--erase)")


def _positive_interval(_, attribute, value):
    if not is_interval(value, 0) or value[0] == 0:
        raise ValueError(f"{attribute.name} {value!r} is not an interval above 0")


@attrs.frozen
class RandomErasing:
    """Zhong et al. 2020, "Random erasing data augmentation": with probability `prob` a box of an image is filled.

    The box has an area of `scale` of the image's (divided by `count`, when there are several) and a height / width
    in `ratio`. Filled with standard normal noise per pixel and channel ("pixel"), one such colour a box ("rand"),
    or 0, which after normalisation is the mean colour ("const").
    """

    prob: float = attrs.field(default=0.25, validator=_probability)
    mode: str = attrs.field(default="pixel", validator=one_of(MODES))
    scale: tuple[float, float] = attrs.field(default=(0.02, 1 / 3), validator=_positive_interval)
    ratio: tuple[float, float] = attrs.field(default=(0.3, 3.3), validator=_positive_interval)
    count: int = attrs.field(default=1, validator=count)

    def __call__(self, images: Tensor, keys: Tensor) -> Tensor:
        """A copy with boxes erased: images [B, 3, H, W] on any device, keys [B, 2] on the CPU."""
        return self.erase_(images.clone(), keys)

    def erase_(self, images: Tensor, keys: Tensor) -> Tensor:
        """The same in place. Work goes with the erased pixels alone, and the host never waits for the device."""
        rows, boxes = self.draw(keys, *images.shape[-2:])
        noise_keys = self._noise_keys(keys[rows])
        for number in range(self.count):
            self._fill_(images, rows, boxes[:, number], noise_keys[:, number])
        return images

    def draw(self, keys: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Which of B images are erased and where: keys [B, 2] -> int64 [E], [E, count, 4] of (top, left, h, w).

        The first of ten draws that is smaller than the image; none (h = w = 0) when no draw is.
        """
        rows = (uniform(keys) < self.prob).nonzero()[:, 0]
        numbers = uniform(fold_in(keys[rows], BOXES), (self.count, TRIES, 4))
        area, aspect, top, left = numbers.double().unbind(-1)  # [E, count, tries]
        area = _between(self.scale, area) * (height * width / self.count)
        aspect = _between((math.log(self.ratio[0]), math.log(self.ratio[1])), aspect).exp()
        h, w = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()
        fits = (h < height) & (w < width)
        top, left = (top * (height - h + 1)).long(), (left * (width - w + 1)).long()
        boxes = torch.stack((top, left, h, w), -1) * fits[..., None]
        first = fits.int().argmax(2)[..., None, None].expand(-1, -1, 1, 4)
        return rows, boxes.gather(2, first)[:, :, 0]

    def table(self, keys: Tensor, height: int, width: int, device: torch.device) -> tuple[str, Tensor, Tensor]:
        """The same for a kernel: mode, int32 [B, count, 6] of (top, left, h, w, noise key), quantiles of the noise."""
        rows, boxes = self.draw(keys, height, width)
        table = torch.zeros(len(keys), self.count, 6, dtype=torch.int32)
        table[rows] = torch.cat((boxes.int(), self._noise_keys(keys[rows])), 2)
        return self.mode, table.to(device, non_blocking=True), _quantiles(device)

    def _noise_keys(self, keys: Tensor) -> Tensor:
        """A key for each box: those of erased images [E, 2] -> [E, count, 2]."""
        return fold_in(keys[:, None], torch.arange(NOISE, NOISE + self.count))

    def _fill_(self, images: Tensor, rows: Tensor, boxes: Tensor, keys: Tensor) -> None:
        """Fill a box [E, 4] in each of these rows [E], with noise of keys [E, 2]."""
        lines = _lines(rows, boxes, keys)
        total = int(lines[:, 3].sum())  # the host knows it: the boxes are its own
        row, y, left, width, key0, key1 = lines.to(images.device, non_blocking=True).unbind(1)
        line, x = _parts(width, total)
        row, y, x, keys = row[line], y[line], x + left[line], torch.stack((key0, key1), 1).int()
        if self.mode == "const":
            values = images.new_zeros(())
        elif self.mode == "rand":
            values = noise(keys, torch.zeros_like(width))[line]
        else:
            values = noise(keys[line], y * images.shape[3] + x)
        images.permute(0, 2, 3, 1).index_put_((row, y, x), values.to(images.dtype))


def noise(keys: Tensor, number: Tensor) -> Tensor:
    """Standard normal colours: keys [P, 2], the number of the colour [P] -> float32 [P, 3].

    One threefry block a colour: its 64 bits hold three of 16, each the place of a quantile of the normal distribution.
    """
    places = fold_in(keys, number).view(torch.int16)[:, :3].reshape(-1).int() + (1 << 15)
    return _quantiles(keys.device).index_select(0, places).view(-1, 3)


@functools.lru_cache(maxsize=8)
def _quantiles(device: torch.device) -> Tensor:
    """The normal distribution in 65,536 numbers of equal weight; made on the CPU, so equal on all devices."""
    share = (torch.arange(1 << 16, dtype=torch.float64) + 0.5) * 2**-16
    return (math.sqrt(2) * torch.erfinv(2 * share - 1)).float().to(device)


def _lines(rows: Tensor, boxes: Tensor, keys: Tensor) -> Tensor:
    """The lines of pixels in boxes: rows [E], boxes [E, 4], keys [E, 2] -> int64 [L, 6]: row, y, left, width, key."""
    top, left, height, width = boxes.unbind(1)
    box, line = _parts(height, int(height.sum()))
    places = torch.stack((rows[box], top[box] + line, left[box], width[box]), 1)
    return torch.cat((places, keys[box]), 1)


def _parts(sizes: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """All parts of things one after another: sizes [E], their sum total -> thing, and number in the thing, [total]."""
    thing = torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes, output_size=total)
    return thing, torch.arange(total, device=sizes.device) - (sizes.cumsum(0) - sizes)[thing]


def _between(ends: tuple[float, float], share: Tensor) -> Tensor:
    return ends[0] + (ends[1] - ends[0]) * share
