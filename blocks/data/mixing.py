"""MixUp and CutMix: each image of a batch is mixed with its neighbour, and their targets with it."""

import attrs
import torch
from torch import Tensor

from blocks.checks import count_or_none, is_interval, is_within, one_of
from blocks.data.augment.checks import share
from blocks.data.beta import NUMBERS, symmetric_beta
from blocks.random import fold_in, uniform

MODES = ("batch", "pair", "elem")
BOX = slice(2, 6)  # of a draw's uniform numbers: mixed at all, cut or blended, box, lambda


@attrs.frozen(eq=False)
class Mixture:
    """How M images are mixed: lambda, the share of the image itself, float64 [M]; the pasted box of the partner,
    int64 [M, 4] of (top, left, height, width); and whether it is pasted (CutMix) or blended (MixUp), bool [M].

    M is the batch size, or 1 for a whole batch alike. An image that is not mixed has lambda 1 and an empty box.
    """

    lam: Tensor
    box: Tensor
    cut: Tensor

    def to(self, device: torch.device) -> "Mixture":
        """The same on another device, without waiting for it."""
        return Mixture(*(x.to(device, non_blocking=True) for x in (self.lam, self.box, self.cut)))

    def partner_weight(self, height: int, width: int, dtype: torch.dtype) -> Tensor:
        """The partner's share in each pixel: [M, 1, height, width], 0 or 1 where a box is pasted."""
        top, left, box_height, box_width = self.box[:, :, None].unbind(1)  # [M, 1]
        y, x = torch.arange(height, device=self.box.device), torch.arange(width, device=self.box.device)
        rows, columns = (y >= top) & (y < top + box_height), (x >= left) & (x < left + box_width)
        pasted = (rows[:, :, None] & columns[:, None, :]).to(dtype)
        blended = (1 - self.lam).to(dtype)
        return torch.where(self.cut[:, None, None], pasted, blended[:, None, None])[:, None]


@attrs.frozen
class Mixing:
    """MixUp (Zhang et al. 2018) or, with `switch_prob`, CutMix (Yun et al. 2019), for the share `prob` of draws.

    `mode` says what has a draw of its own: the batch, a pair of neighbours, or each image. Lambda is
    Beta(alpha, alpha); alpha 0 switches a kind off. A box of CutMix has the area 1 - lambda and is cut off at the
    image's edges, or with `cutmix_minmax` has sides drawn between these shares of the image's; `correct_lam` takes
    lambda from the pixels that were really pasted. Targets are smoothed here, so the loss should not smooth again.
    """

    num_classes: int = attrs.field(validator=count_or_none)  # 0: of images without labels
    mixup_alpha: float = 0.8
    cutmix_alpha: float = 1.0
    prob: float = attrs.field(default=1.0, validator=share)
    switch_prob: float = attrs.field(default=0.5, validator=share)
    mode: str = attrs.field(default="batch", validator=one_of(MODES))
    correct_lam: bool = True
    label_smoothing: float = attrs.field(default=0.0, validator=share)
    cutmix_minmax: tuple[float, float] | None = None

    def __attrs_post_init__(self):
        alphas = self.mixup_alpha, self.cutmix_alpha
        if not all(is_within(alpha, 0) for alpha in alphas) or not (max(alphas) or self.cutmix_minmax):
            raise ValueError(
                f"mixup_alpha {alphas[0]} and cutmix_alpha {alphas[1]} must be 0 or more, and one of them above 0"
            )
        if self.cutmix_minmax is not None:
            if not is_interval(self.cutmix_minmax, 0, 1):
                raise ValueError(f"cutmix_minmax {self.cutmix_minmax} is not an interval within 0 to 1")
            if not self.correct_lam:
                raise ValueError("cutmix_minmax draws the box, not lambda; it needs correct_lam=True")

    def __call__(self, images: Tensor, labels: Tensor, key: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Mixed images [B, 3, H, W] and targets float32 [B, C] that sum to 1, as new tensors.

        labels: int64 [B] of 0 to C - 1, or probabilities [B, C]. key [2] is the step's, index [B] the places in the
        global batch: they may lie on the CPU, and should when the images do not. Partner of place i is i ^ 1, and for
        the last of an odd batch the one before: a share of the batch must be whole pairs. Raises ValueError for
        another C.
        """
        mixture = self._mixture(images, key, index)
        return _mixed(images, mixture), self.mixed_targets(labels, mixture)

    def pictures(self, images: Tensor, key: Tensor, index: Tensor) -> Tensor:
        """The mixed images [B, 3, H, W] of a call alone: for views, whose labels nobody asks for."""
        return _mixed(images, self._mixture(images, key, index))

    def mixed_targets(self, labels: Tensor, mixture: Mixture) -> Tensor:
        """Each image's smoothed targets with its partner's share in them: labels [B] or [B, C] -> float32 [B, C]."""
        targets, weight = self.targets(labels), (1 - mixture.lam).float()[:, None]
        return torch.lerp(targets, targets[partners(len(targets), targets.device)], weight)

    def targets(self, labels: Tensor) -> Tensor:
        """Smoothed probabilities of labels, int64 [B] or already [B, C]: float32 [B, C]."""
        if not self.num_classes:
            raise ValueError("num_classes 0 mixes images without labels; give the number of classes of these labels")
        if labels.ndim == 1:
            labels = labels[:, None] == torch.arange(self.num_classes, device=labels.device)
        if labels.shape[1] != self.num_classes:
            raise ValueError(f"labels of {labels.shape[1]} classes cannot be mixed for num_classes {self.num_classes}")
        return labels.float() * (1 - self.label_smoothing) + self.label_smoothing / self.num_classes

    def draw(self, key: Tensor, index: Tensor, height: int, width: int) -> Mixture:
        """The mixture of images of this size, on the key's device: key [2], index [B] -> M = 1 (mode "batch") or B."""
        numbers = uniform(self._keys(key, index), (6 + NUMBERS,)).double() + 2**-25  # of 24 bits: never 0 or 1
        mixed = numbers[:, 0] < self.prob
        cut = mixed & (numbers[:, 1] < self._cut_share())
        alpha = torch.where(cut, self.cutmix_alpha or 1.0, self.mixup_alpha or 1.0)
        lam = torch.where(mixed, symmetric_beta(alpha, numbers[:, 6:]), 1.0)
        box = self._boxes(lam, numbers[:, BOX], height, width) * cut[:, None]
        if self.correct_lam:
            lam = torch.where(cut, 1 - (box[:, 2] * box[:, 3]).double() / (height * width), lam)
        return Mixture(lam, box, cut)

    def _mixture(self, images: Tensor, key: Tensor, index: Tensor) -> Mixture:
        return self.draw(key, index, *images.shape[-2:]).to(images.device)

    def _keys(self, key: Tensor, index: Tensor) -> Tensor:
        if self.mode == "batch":
            return key[None]
        return fold_in(key, index // 2 if self.mode == "pair" else index)

    def _cut_share(self) -> float:
        if not self.cutmix_alpha and self.cutmix_minmax is None:
            return 0.0
        return self.switch_prob if self.mixup_alpha else 1.0

    def _boxes(self, lam: Tensor, numbers: Tensor, height: int, width: int) -> Tensor:
        """Boxes of the partner: lam [M], uniform numbers [M, 4] -> int64 [M, 4]."""
        sides = (1 - lam).sqrt()  # as shares of the image's
        top, box_height = self._segment(height, sides, numbers[:, 0], numbers[:, 2])
        left, box_width = self._segment(width, sides, numbers[:, 1], numbers[:, 3])
        return torch.stack((top, left, box_height, box_width), 1)

    def _segment(self, size: int, share: Tensor, length: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Start and length of a part of 0 to size, from uniform numbers [M]: int64 [M] each."""
        if self.cutmix_minmax is not None:
            low, high = (int(size * limit) for limit in self.cutmix_minmax)
            length = low + (length * (high - low + 1)).long()
            return (place * (size - length + 1)).long(), length
        length = (size * share).long()
        start = (place * size).long() - length // 2  # around a centre anywhere in the image
        first, last = start.clamp(min=0), (start + length).clamp(max=size)
        return first, last - first


def _mixed(images: Tensor, mixture: Mixture) -> Tensor:
    """Each image with its partner's share in it."""
    partner = partners(len(images), images.device)
    height, width = images.shape[-2:]
    return torch.lerp(images, images[partner], mixture.partner_weight(height, width, images.dtype))


def partners(batch_size: int, device: torch.device | str = "cpu") -> Tensor:
    """Each place's partner: its neighbour, for the last of an odd batch the one before it: int64 [B]."""
    places = torch.arange(batch_size, device=device)
    return torch.where((places ^ 1) < batch_size, places ^ 1, max(batch_size - 2, 0))
