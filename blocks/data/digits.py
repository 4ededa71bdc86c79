"""Scikit-learn's handwritten digits as shards: a real data set that needs no download."""

import os
from pathlib import Path

import numpy as np

from blocks.data.order import epoch_order
from blocks.data.storage.cache import cache_folder, once
from blocks.data.writing.convert import write_dataset
from blocks.data.writing.item import Item
from blocks.data.writing.iterator import iterator_source
from blocks.data.writing.source import Source

VERSION = "digits-2"
VAL_SHARE = 0.2
SAMPLES_PER_SHARD = 240  # 6 train and 2 val shards


def digits(folder: str | os.PathLike | None = None) -> tuple[str, str]:
    """(train pattern, val pattern) of 1,797 8 x 8 pictures, 10 classes; written into the cache folder at first use.

    The split is fixed: a fifth of every class is for validation.
    """
    target = Path(folder if folder is not None else cache_folder()) / VERSION
    once(target, _write)
    return str(target / "train-*.tar"), str(target / "val-*.tar")


def _write(folder: Path) -> None:
    images, labels = _load()
    order = epoch_order(len(labels), seed=0, epoch=0).numpy()
    for_val = np.zeros(len(labels), bool)
    for label in range(10):
        members = order[labels[order] == label]
        for_val[members[: round(VAL_SHARE * len(members))]] = True
    chosen = {"train": order[~for_val[order]], "val": order[for_val[order]]}
    sources = {split: _source(images, labels, numbers) for split, numbers in chosen.items()}
    write_dataset(sources, folder, samples_per_shard=SAMPLES_PER_SHARD, workers=0, progress=False)


def _load() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise ModuleNotFoundError("the digits come with scikit-learn: pip install 'vitmason[recipes]'") from None
    data = load_digits()
    return np.round(data.images * (255 / 16)).astype(np.uint8), data.target.astype(np.int64)


def _source(images: np.ndarray, labels: np.ndarray, chosen: np.ndarray) -> Source:
    items = (Item(f"{sample:04d}", images[sample], labels[sample]) for sample in chosen.tolist())
    return iterator_source(items, [str(label) for label in range(10)], "the digits")
