"""Scikit-learn's handwritten digits as shards: a real data set that needs no download."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from blocks.data.cache import cache_folder, once
from blocks.data.manifest import write_manifest
from blocks.data.order import epoch_order
from blocks.data.writer import write_shards

VERSION = "digits-1"
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
    splits = {}
    for split, part in (("train", ~for_val), ("val", for_val)):
        chosen = order[part[order]]
        shards = write_shards(_samples(images, labels, chosen), folder, split, SAMPLES_PER_SHARD)
        counts = np.bincount(labels[chosen], minlength=10).tolist()
        splits[split] = {"samples": len(chosen), "shards": shards, "samples_per_class": counts}
    write_manifest(folder, [str(label) for label in range(10)], splits)


def _load() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise ModuleNotFoundError("the digits come with scikit-learn: pip install 'vitmason[recipes]'") from None
    data = load_digits()
    return np.round(data.images * (255 / 16)).astype(np.uint8), data.target.astype(np.int64)


def _samples(images: np.ndarray, labels: np.ndarray, chosen: np.ndarray) -> Iterator[dict[str, Any]]:
    for sample in chosen.tolist():
        png = io.BytesIO()
        Image.fromarray(images[sample]).save(png, "png")
        yield {"__key__": f"{sample:04d}", "png": png.getvalue(), "cls": b"%d" % labels[sample]}
