"""Evaluation batches: every image once, over all processes and however many they are."""

from collections.abc import Iterator
from typing import Any, cast

import attrs
from torch import Tensor
from torch.utils.data import DataLoader

from blocks.data.loading.batches import EvalBatches
from blocks.data.loading.kept import Cut
from blocks.data.loading.loader import Loader
from blocks.data.loading.made import Checked, called
from blocks.data.loading.prefetch import one_ahead, side_stream
from blocks.data.loading.workers import from_workers
from blocks.data.per_image import PerImage


@attrs.define(eq=False)
class EvalLoader(Loader):
    """This process's share of an index, in stored order; shares differ by one image at most and may be empty.

    Processes may therefore differ in their number of batches: sum over the batches first, over processes at the end.
    `batch_size` is one process's. Unreadable images are left out. Workers stay for the next pass.
    """

    _loader: DataLoader | None = attrs.field(init=False, default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        if hasattr(self.transform, "finish"):
            raise ValueError(
                f"transform {called(self.transform)} is for training, by keys that evaluation has none of; give "
                "EvalTransform, or another without finish"
            )
        self._check_decoded()

    def _places(self) -> list[tuple[int, int]]:
        first, last = (len(self.index) * r // self.world_size for r in (self.rank, self.rank + 1))
        return [(start, min(start + self.batch_size, last)) for start in range(first, last, self.batch_size)]

    def __len__(self) -> int:
        return len(self._places())

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """{"images": float32 [b, 3, H, W] on the device, "labels": int64 [b], "index": int64 [b], its sample}.

        Without labels there are no "labels".
        """
        places = self._places()
        if not places:
            return
        loader, self._loader = self._loader or self._workers_for(places), None  # a pass beside this one has its own
        try:
            yield from one_ahead(self._readable(loader), self._on_device, side_stream(self.device))
        finally:
            self._loader = loader

    def _workers_for(self, places: list[tuple[int, int]]) -> DataLoader:
        batches = EvalBatches(self.index, Checked(self.transform), places)
        return self._workers(batches, range(len(places)), persistent=True)

    def _readable(self, loader: DataLoader) -> Iterator[dict[str, Any]]:
        for batch in from_workers(loader):
            self._note(batch["skipped"])
            if batch["images"] is not None:
                yield batch

    def _on_device(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        known = [name for name in ("labels", "index") if name in batch]
        numbers = {name: batch[name].to(self.device, non_blocking=True) for name in known}
        return {"images": self._normalize(self._gathered(batch["images"])), **numbers}

    def _cut(self) -> Cut | None:
        if isinstance(self.transform, PerImage):
            return None  # whose function no name on the disk stands for: the pictures are kept whole
        return cast(Cut, self.transform)  # nothing in it is drawn: what is kept are its results

    def close(self) -> None:
        """Stop the workers."""
        self._loader = None
