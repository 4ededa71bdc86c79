"""What a model sees of some samples: the batches of a TrainLoader, with the normalisation undone."""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, cast

import attrs
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from blocks.data.decode import UnreadableImage
from blocks.data.erasing import RandomErasing
from blocks.data.index.index import Index
from blocks.data.index.read import Reader
from blocks.data.inspect.contact_sheet import Row
from blocks.data.inspect.facts import class_name, sample_key
from blocks.data.loading.slots import Transform
from blocks.data.loading.train_loader import TrainLoader
from blocks.data.mixing import Mixing
from blocks.data.multi_crop import MultiCrop
from blocks.data.order import SUBSET
from blocks.data.printable import printable
from blocks.data.storage import CacheFull, FetchError
from blocks.data.storage.shard import CachedShard
from blocks.data.transforms import EvalTransform, TrainTransform
from blocks.data.views import pictures_of
from blocks.random import bits, fold_in, key

Columns = list[tuple[str, list[Image.Image]]]  # heading, and a picture of every sample


def readable_samples(index: Index, count: int, seed: int) -> np.ndarray:
    """As many samples as there are, int64 [at most count], of as many classes as can be; chosen by the seed, sorted
    by label.
    """
    reader = Reader(index)
    chosen = np.array(list(islice(_readable(reader, spread_order(index.label, seed)), count)), np.int64)
    return chosen[np.lexsort((chosen, index.label[chosen]))]


def spread_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """All samples [N] in a random order that takes one of every class, then a second one of every class, and so on."""
    rank = bits(fold_in(key(seed), SUBSET), (len(labels),)).numpy()
    by_class = np.lexsort((rank, labels))
    _, first, members = np.unique(labels[by_class], return_index=True, return_counts=True)
    turn = np.empty_like(by_class)
    turn[by_class] = np.arange(len(labels)) - np.repeat(first, members)
    return np.lexsort((rank, turn))


def _readable(reader: Reader, samples: np.ndarray) -> Iterator[int]:
    for sample in samples.tolist():
        try:
            reader.image(sample)
        except (FetchError, CacheFull):
            raise
        except (UnreadableImage, OSError):
            continue
        yield sample


def sheet_rows(index: Index, columns: Columns) -> list[Row]:
    """A row for every sample: its class, key, shard and size, the stored picture and its views."""
    reader = Reader(index)
    stored = [reader.image(sample) for sample in range(len(index))]
    views = zip(*(pictures for _, pictures in columns), strict=True)
    return [
        Row(caption(index, sample, picture.size), picture, views_of_it)
        for sample, (picture, views_of_it) in enumerate(zip(stored, views, strict=True))
    ]


def caption(index: Index, sample: int, size: tuple[int, int]) -> str:
    """A sample's class, key, shard and size."""
    shard = os.path.basename(index.shards[index.shard[sample]].name)
    name = class_name(index, int(index.label[sample]))
    return printable(f"{name}: {sample_key(index, sample)}, {shard}, {size[0]} x {size[1]}")


def seen(
    index: Index, transform: TrainTransform | MultiCrop, count: int, seed: int = 0, erase: RandomErasing | None = None,
    mix: Mixing | None = None,
) -> Columns:  # fmt: skip
    """Columns of views of all samples of a (small) index, about `count`: the crops of one batch, and of further epochs
    where there is room.

    Every epoch is one batch of all samples. Their numbers stand in for the labels, so that each is found in its batch.
    """
    numbered = attrs.evolve(index, label=np.arange(len(index)), classes=None, labelled=True)
    settings: dict[str, Any] = dict(index=numbered, batch_size=len(index), num_classes=len(index), seed=seed)
    if any(isinstance(shard, CachedShard) for shard in index.shards):
        settings["shuffle_window"] = 1  # shard after shard: a cache of a few of them suffices
    mix = attrs.evolve(mix, num_classes=len(index)) if mix else None
    plain = TrainLoader(transform=EvalTransform(1), **settings)  # mixed labels would not tell the samples
    columns: Columns = []
    with TrainLoader(transform=cast(Transform, transform), erase=erase, mix=mix, **settings) as loader, plain:
        for epoch, (batch, order) in enumerate(zip(loader.batches(), plain.batches(), strict=True)):
            views = list(_views(loader, batch, torch.argsort(order["labels"])))
            columns += [(_heading(epoch, view, len(views), count), pictures) for view, pictures in enumerate(views)]
            if len(columns) + len(views) > count:
                return columns
    raise AssertionError("the batches of a TrainLoader have no end")


def _views(loader: TrainLoader, batch: dict[str, Tensor], samples: Tensor) -> Iterator[list[Image.Image]]:
    """View by view the pictures of a batch, in the order of these places [B]."""
    for x in pictures_of(batch).values():
        crops = x[samples].unflatten(0, (-1, 1)) if x.ndim == 4 else x[samples]  # [B, V, 3, H, W]
        for view in crops.unbind(1):
            yield [Image.fromarray(picture) for picture in pixels(view, loader.mean, loader.std).numpy()]


def pixels(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalised pictures float32 [B, 3, H, W] as bytes [B, H, W, 3]; what erasing drew beyond black and white is cut.

    Exact: normalising loses less than half a level.
    """
    shift, scale = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (mean, std))
    return ((images * scale + shift) * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().cpu()


def _heading(epoch: int, view: int, views: int, count: int) -> str:
    if views == 1:
        return f"epoch {epoch}"
    return f"crop {view}" if 2 * views > count else f"epoch {epoch}, crop {view}"
