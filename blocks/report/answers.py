"""What a model answers to images, as many as there is time for."""

from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from blocks.report.images import Images

SECONDS = 5.0  # of a pass over images


@attrs.frozen(eq=False)
class Answers:
    """values float32 [n, D] and the samples they are of, as numbers in `images`: int64 [n]; all on the CPU."""

    images: Images
    values: Tensor
    samples: Tensor

    @property
    def labels(self) -> Tensor:
        """The samples' labels: int64 [n]."""
        return torch.from_numpy(self.images.index.label)[self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __str__(self) -> str:
        """Which images these are of: "359 validation images", "the first 100 of 2,000 training images"."""
        whole = f"{len(self.images):,} {self.images.name}"
        return whole if len(self) == len(self.images) else f"{len(self):,} of {whole}"


@torch.no_grad()
def answers(model: Callable[[Tensor], Tensor], images: Images, device: torch.device) -> Answers:
    """model(images [b, 3, H, W]) -> [b, D], for one image after another until all are seen or SECONDS have passed."""
    found = [(model(batch["images"]), batch["index"]) for batch in images.batches(SECONDS, device)]
    values, samples = (torch.cat([part.cpu() for part in column]) for column in zip(*found, strict=True))
    return Answers(images, values.float(), samples)
