"""The images that a report looks at: the run's own training and validation images, or others."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from blocks.data import EvalLoader, pretraining_shards
from blocks.data.augment.boxes import Size, sides
from blocks.data.index.index import Index
from blocks.data.inspect.views import pixels, spread_order
from blocks.data.seen import seen_as, shown_shards
from blocks.report.parts import Absent
from blocks.runs.run import Run

MOST = 2000  # images that are looked at
USUAL_SIZE = 224  # pixels, where a transform does not say
BATCH, BATCH_PIXELS = 64, 1 << 20  # at most, in a batch: on one core a large model has an answer in seconds
WAY_OUT = "name a folder or shards by --images"


@attrs.frozen(eq=False)
class Images:
    """Samples of an index as evaluation shows them, in an order that goes round the classes; `name` says which they
    are.
    """

    index: Index
    seen: Mapping[str, Any]  # {"transform", perhaps "mean", "std"}, a loader's
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
        height, width = sides(getattr(self.seen["transform"], "img_size", USUAL_SIZE))
        size = max(1, min(BATCH, BATCH_PIXELS // (height * width)))
        return EvalLoader(index=self.index, batch_size=size, device=device, **self.seen)


def own_images(run: Run, seen: Mapping[str, Any]) -> tuple[Images, Images | None]:
    """(training, validation images) of a run, as they are `seen`; None for none of the latter.

    They are those that its settings name, else those whose shards it noted. Raises Absent where neither are there.
    """
    try:
        train, val = _named(run.settings)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        try:
            train, val = (shown_shards(run.images.get(half, {})) for half in ("train", "val"))
        except (OSError, ValueError, ModuleNotFoundError):
            raise Absent(f"the run's data cannot be opened: {error}; {WAY_OUT}") from error
    held_out = None if val is None else spread(val, seen, "validation images")
    return spread(train, seen, "training images"), held_out


def _named(settings: Mapping[str, Any]) -> tuple[Index, Index | None]:
    """The training and the validation shards by their names in settings."""
    data = settings.get("data")
    if not isinstance(data, str):
        raise ValueError("its settings name no data")
    return pretraining_shards(data, settings.get("val") or "")


def spread(index: Index, seen: Mapping[str, Any], name: str) -> Images:
    """Up to MOST images of an index, in turn one of every class: a beginning of them is spread over the classes too."""
    return Images(index.take(spread_order(index.label, 0)[:MOST]), seen, name)


def as_evaluated(run: Run, img_size: Size = 0) -> dict[str, Any]:
    """How a run's evaluation saw images, for a loader. Raises Absent where its folder does not tell."""
    try:
        return seen_as(run.images.get("val") or {}, img_size=img_size)
    except ValueError as error:
        raise Absent(f"it is not known how the run saw its images: {error}") from error
