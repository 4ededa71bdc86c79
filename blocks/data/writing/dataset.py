"""Map-style datasets, as torchvision's: files by their bytes, pictures and arrays without loss."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from PIL import Image
from torch.utils.data import Subset

from blocks.data.decode import UnreadableImage
from blocks.data.writing.item import Item
from blocks.data.writing.source import Files, Source


def dataset_source(dataset: Any, labelled: bool = True) -> Source:
    """The samples of dataset[i] -> (PIL image, uint8 array or path, label), for i in range(len(dataset)); unless it is
    `labelled` the label may be left out, and is not looked at.

    Where it lists files in `samples`, as torchvision's ImageFolder, their bytes are taken, without its transform.
    Class names come from its `classes`. Of a torch Subset both are those of the whole.
    """
    name = f"{type(dataset).__name__} of {len(dataset)}"
    if not len(dataset):
        raise ValueError(f"{name}: there is no sample in it")
    whole, chosen = _whole(dataset)
    classes = tuple(map(str, getattr(whole, "classes", ()))) if labelled else ()
    if not _lists_files(whole):
        identity = _identity(whole, chosen, name, classes)
        return Source(name, Pictures(dataset, labelled), classes, identity, labelled=labelled)
    paths, labels = zip(*(whole.samples[i] for i in chosen), strict=True)
    change = getattr(whole, "target_transform", None)
    root = Path(getattr(whole, "root", "/"))
    below = [os.path.relpath(path, root) for path in paths]
    numbers: Sequence[int] = list(map(change, labels)) if change else labels
    files = Files(root, below, numbers if labelled else ())
    return Source(name, files, classes, files.identity(), labelled=labelled)


def _whole(dataset: Any) -> tuple[Any, Sequence[int]]:
    """The data set that a Subset, perhaps of a Subset, was taken from, and which of its samples."""
    chosen: Sequence[int] = range(len(dataset))
    while isinstance(dataset, Subset):
        chosen = [int(dataset.indices[i]) for i in chosen]
        dataset = dataset.dataset
    return dataset, chosen


def _lists_files(dataset: Any) -> bool:
    samples = getattr(dataset, "samples", None)
    if not isinstance(samples, (list, tuple)) or len(samples) != len(dataset):
        return False
    first = samples[0]
    return isinstance(first, (list, tuple)) and len(first) == 2 and isinstance(first[0], (str, os.PathLike))


def _identity(dataset: Any, chosen: Sequence[int], name: str, classes: tuple[str, ...]) -> str:
    """Of what is known without asking for a picture."""
    targets = np.asarray(getattr(dataset, "targets", ())).tolist()
    known = [name, classes, targets]
    if not isinstance(chosen, range):
        known.append(chosen)
    return hashlib.sha256(json.dumps(known, default=str).encode()).hexdigest()


@attrs.frozen(eq=False)
class Pictures(Sequence):
    """Items that a dataset makes when it is asked."""

    dataset: Any
    labelled: bool = True

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i):
        """The item. Raises UnreadableImage for a damaged file behind it, ValueError for what is no picture."""
        name = f"sample {i}"
        try:
            picture, label = self._sample(i)
        except (OSError, SyntaxError) as error:  # Pillow's for damaged files
            raise UnreadableImage(name, f"{type(error).__name__}: {error}") from None
        if not isinstance(picture, (Image.Image, np.ndarray, str, os.PathLike)):
            raise ValueError(
                f"{name} of the dataset is a {type(picture).__name__}, not a picture; give it without a transform"
            )
        return Item(None, picture, label, name=name)

    def _sample(self, i: int) -> tuple[Any, Any]:
        sample = self.dataset[i]
        if self.labelled:
            picture, label, *_ = sample
            return picture, label
        return (sample[0] if isinstance(sample, (tuple, list)) else sample), None
