"""Map-style datasets, as torchvision's: files by their bytes, pictures and arrays without loss."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from PIL import Image
from torch.utils.data import Subset

from blocks.data.decode import UnreadableImage
from blocks.data.writing.item import Item
from blocks.data.writing.source import Files, Source

IMAGE, LABEL = "image", "label"  # the keys of samples that are dicts


def dataset_source(dataset: Any, labelled: bool = True) -> Source:
    """The samples of dataset[i] -> (PIL image, uint8 array or path, label), or a dict that has them as "image" and
    "label", for i in range(len(dataset)); unless it is `labelled` the label may be left out, and is not looked at.

    Of torchvision's ImageFolder the files' bytes are taken, without its transform, unless a subclass makes samples of
    its own. Class names come from its `classes`, or Hugging Face's `features`. Of a torch Subset both are the whole's.
    """
    name = f"{type(dataset).__name__} of {len(dataset)}"
    if not len(dataset):
        raise ValueError(f"{name}: there is no sample in it")
    whole, chosen = _whole(dataset)
    classes = _class_names(whole) if labelled else ()
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
    """Whether its samples are those of torchvision's DatasetFolder, which need not be imported to ask."""
    return getattr(type(dataset).__getitem__, "__module__", "") == "torchvision.datasets.folder"


def _class_names(dataset: Any) -> tuple[str, ...]:
    """Several names of one class are joined."""
    features = getattr(dataset, "features", None)
    label = features.get(LABEL) if isinstance(features, Mapping) else None
    given = getattr(dataset, "classes", getattr(label, "names", ()))
    return tuple(", ".join(map(str, name)) if isinstance(name, (tuple, list)) else str(name) for name in given)


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
                f"{name} of the dataset is a {type(picture).__name__}, not a picture; give a PIL image, a uint8 array "
                "or a path, without a transform"
            )
        return Item(None, picture, label, name=name)

    def _sample(self, i: int) -> tuple[Any, Any]:
        sample = self.dataset[i]
        if isinstance(sample, Mapping):
            return self._by_name(sample, i)
        if not self.labelled:
            return (sample[0] if isinstance(sample, (tuple, list)) else sample), None
        if not isinstance(sample, (tuple, list)) or len(sample) < 2:
            what = f"tuple of {len(sample)}" if isinstance(sample, tuple) else type(sample).__name__
            raise ValueError(f"sample {i} of the dataset is a {what}; give (image, label), or a dict with both")
        return sample[0], sample[1]

    def _by_name(self, sample: Mapping[Any, Any], i: int) -> tuple[Any, Any]:
        wanted = (IMAGE, LABEL) if self.labelled else (IMAGE,)
        if not sample.keys() >= set(wanted):
            raise ValueError(
                f"sample {i} of the dataset has {', '.join(map(str, sample))}; call them "
                f"{' and '.join(map(repr, wanted))} (rename_columns of a Hugging Face dataset)"
            )
        return sample[IMAGE], sample[LABEL] if self.labelled else None
