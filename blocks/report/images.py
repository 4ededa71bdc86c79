"""The images that a report looks at: the run's own training and validation images, or others."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from blocks.data import EvalLoader, EvalTransform, pretraining_shards
from blocks.data.augment.boxes import sides
from blocks.data.index.index import Index
from blocks.data.inspect.views import pixels, spread_order
from blocks.report.parts import Absent

MOST = 2000  # images that are looked at
BATCH, BATCH_PIXELS = 64, 1 << 20  # at most, in a batch: on one core a large model has an answer in seconds
WAY_OUT = "name a folder or shards by --images"


@attrs.frozen(eq=False)
class Images:
    """Samples of an index as evaluation shows them, in an order that goes round the classes; `name` says which they
    are.
    """

    index: Index
    transform: EvalTransform
    name: str

    def __len__(self) -> int:
        return len(self.index)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names, or their numbers."""
        return self.index.classes or tuple(map(str, range(self.index.num_classes)))

    @property
    def are_labelled(self) -> bool:
        """Whether their labels tell anything: there is more than one class."""
        return self.index.num_classes > 1

    def batches(self, seconds: float, device: torch.device) -> Iterator[dict[str, Tensor]]:
        """{"images" [b, 3, H, W], "index" [b]}, perhaps "labels": a batch at least, no further one when time is up."""
        began = time.monotonic()
        with self._loader(device) as loader:
            for batch in loader:
                yield batch
                if time.monotonic() - began > seconds:
                    return

    def of(self, samples: Sequence[int]) -> tuple[Tensor, Tensor]:
        """These samples as the model gets them, float32 [n, 3, H, W], and as people do, uint8 [n, H, W, 3]."""
        chosen, again = np.unique(np.asarray(samples, np.int64), return_inverse=True)
        with attrs.evolve(self, index=self.index.take(chosen))._loader(torch.device("cpu")) as loader:
            images = torch.cat([batch["images"] for batch in loader])[torch.from_numpy(again)]
            return images, pixels(images, loader.mean, loader.std)

    def _loader(self, device: torch.device) -> EvalLoader:
        height, width = sides(self.transform.img_size)
        size = max(1, min(BATCH, BATCH_PIXELS // (height * width)))
        return EvalLoader(index=self.index, batch_size=size, transform=self.transform, device=device)


def own_images(settings: Mapping[str, Any]) -> tuple[Images, Images | None]:
    """(training, validation images) of a run, None for none of the latter.

    Raises Absent where its settings name none, or they are not there.
    """
    data = settings.get("data")
    if not isinstance(data, str):
        raise Absent(f"the run's settings name no data; {WAY_OUT}")
    try:
        train, val = pretraining_shards(data, settings.get("val") or "")
    except (OSError, ValueError, ModuleNotFoundError) as error:
        raise Absent(f"the run's data cannot be opened: {error}; {WAY_OUT}") from error
    transform = transform_of(settings)
    held_out = None if val is None else spread(val, transform, "validation images")
    return spread(train, transform, "training images"), held_out


def spread(index: Index, transform: EvalTransform, name: str) -> Images:
    """Up to MOST images of an index, in turn one of every class: a beginning of them is spread over the classes too."""
    return Images(index.take(spread_order(index.label, 0)[:MOST]), transform, name)


def transform_of(settings: Mapping[str, Any]) -> EvalTransform:
    """How a run's evaluation cuts images. Raises Absent where its settings do not give their size."""
    if not settings.get("img_size"):
        raise Absent("the run's settings have no img_size, the size of its images")
    size = settings["img_size"]
    crop = {"crop_pct": settings["crop_pct"]} if "crop_pct" in settings else {}  # as a recipe without it
    return EvalTransform(tuple(size) if isinstance(size, list) else size, **crop)
