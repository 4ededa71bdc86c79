"""What a model attends to while it trains: `vitals` of the same few images, a line of attention.jsonl each time."""

from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from blocks.pictures.vitals import vitals
from blocks.runs.records import RecordFile, read
from blocks.tree import Tree

IMAGES = 8  # enough for a mean, and less work than a step


@attrs.define(eq=False)
class Watch:
    """Looks at `model` on the first images of an evaluation loader, if there is one. A context manager."""

    model: Any
    loader: Any
    device: torch.device
    path: Path
    step: int  # at which this run began: what the file has beyond it is a killed run's
    images: Tensor | None = None
    file: RecordFile | None = None

    def look(self, step: int, epoch: int, params: Tree) -> None:
        """Note the model's vitals, unless this step's are known; nothing where the model has no attention."""
        known = any(record["step"] == step <= self.step for record in read(self.path))
        if self.model is None or self.loader is None or known:
            return
        if self.images is None:
            self.images = first_images(self.loader, IMAGES).to(self.device)
        found = vitals(self.model, params, self.images) if len(self.images) else {}
        if not found:  # nor ever
            self.model = None
            return
        self.file = self.file or RecordFile(self.path, self.step)
        self.file.write({"step": step, "epoch": epoch, **found})

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.file:
            self.file.close()


def first_images(loader: Any, count: int) -> Tensor:
    """The first `count` images of an evaluation loader, [b, 3, H, W], made without its workers; [0] of an empty one."""
    if attrs.has(type(loader)) and hasattr(loader, "num_workers"):
        few = {"batch_size": count, "num_workers": 0, "decoded": None}
        known = attrs.fields_dict(type(loader)).keys()
        loader = attrs.evolve(loader, **{name: value for name, value in few.items() if name in known})
    for batch in loader:
        return batch["images"][:count].clone()
    return torch.empty(0)
