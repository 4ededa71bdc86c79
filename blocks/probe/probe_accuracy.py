"""Which of several linear classifiers is the best."""

from collections.abc import Iterable, Mapping
from typing import Protocol

import attrs
import torch
from torch import Tensor

from blocks import tree
from blocks.block import Params
from blocks.collective import total
from blocks.probe.features import Place, check_apart


class Probes(Protocol):
    """Several classifiers of one image."""

    @property
    def heads(self) -> int:
        """K, how many."""

    def logits(self, params: Params, images: Tensor) -> Tensor:
        """images [B, C, H, W] -> [K, B, classes]."""


@attrs.frozen(eq=False)
class ProbeAccuracy:
    """`accuracy(params) -> {"top1", "best_head", "top1_0", "top1_1", ..., "images"}` over all processes' images.

    An `evaluate=` for the training loop. "top1" is the best head's on these very images, as is the custom: a little
    too good where heads are many and images few. Raises ValueError where no process saw an image, and as `check_apart`
    does.
    """

    probes: Probes
    val_data: Iterable[Mapping[str, Tensor]]
    processes: Place
    dtype: torch.dtype | None = None

    @torch.no_grad()
    def __call__(self, params: Params) -> dict[str, float]:
        check_apart(getattr(self.probes, "model", None), params)
        params = params if self.dtype is None else tree.cast(params, self.dtype)
        kind = tree.leaves(params)[0].dtype
        device = self.processes.device
        sums = torch.zeros(self.probes.heads + 1, dtype=torch.float64, device=device)  # hits by head, images
        for batch in self.val_data:
            images, labels = batch["images"].to(device, kind), batch["labels"].to(device)
            sums[:-1] += (self.probes.logits(params, images).argmax(-1) == labels).sum(1)
            sums[-1] += len(labels)
        *hits, images = total(sums).tolist()
        if not images:
            raise ValueError("no image to evaluate on; look at the validation shards")
        each = {f"top1_{k}": count / images for k, count in enumerate(hits)}
        best = max(range(len(hits)), key=hits.__getitem__)
        return {"top1": hits[best] / images, "best_head": best, **each, "images": int(images)}
