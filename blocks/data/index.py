"""All samples of some shards as flat arrays: reading data is index arithmetic from here on."""

import functools
import glob
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import attrs
import numpy as np
from webdataset.shardlists import expand_urls

from blocks.data.manifest import read_manifest, samples_per_shard
from blocks.data.pool import process_map, progress_bar
from blocks.data.scan import read_shard, sample_keys
from blocks.data.shard import Shard

SUFFIXES = (".tar", ".tar.gz", ".tgz")
POOL_FROM = 8  # shards: below, starting processes costs more than it saves


@attrs.frozen(eq=False, repr=False)
class Index:
    """Where each of N samples lies: in `shards[shard[i]]`, from byte `offset[i]`, `size[i]` bytes; arrays int64 [N]."""

    shards: tuple[Shard, ...]
    shard: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    label: np.ndarray
    classes: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.label)

    @property
    def num_classes(self) -> int:
        """As many as the shards' index.json names; without one, the largest label plus 1."""
        return len(self.classes) if self.classes else int(self.label.max()) + 1

    def __repr__(self) -> str:
        return f"Index({len(self)} samples in {len(self.shards)} shards)"

    def name(self, sample: int) -> str:
        """A sample's shard and key, for messages."""
        shard = self.shards[self.shard[sample]]
        return f"{shard.name}, sample {_keys(shard.local())[int(self.offset[sample])]}"

    def take(self, samples: np.ndarray) -> "Index":
        """An index of these samples alone, in this order. Raises ValueError where one is there twice or not at all."""
        samples = np.asarray(samples, dtype=np.int64)
        if len(np.unique(samples)) != len(samples) or not np.isin(samples, np.arange(len(self))).all():
            raise ValueError(f"samples must be different numbers from 0 to {len(self) - 1}")
        columns = {name: getattr(self, name)[samples] for name in ("shard", "offset", "size", "label")}
        return attrs.evolve(self, **columns)

    def check_labels(self, num_classes: int) -> None:
        """Raises ValueError that names a sample whose label is not below num_classes."""
        wrong = np.flatnonzero((self.label < 0) | (self.label >= num_classes))
        if len(wrong):
            raise ValueError(
                f"{self.name(wrong[0])}: label {self.label[wrong[0]]} is not one of {num_classes} classes "
                f"(0 to {num_classes - 1}), as in {len(wrong)} of {len(self)} samples; the largest label is "
                f"{self.label.max()}, so num_classes={self.label.max() + 1} would hold them"
            )


@functools.lru_cache(maxsize=4)
def _keys(path: str) -> dict[int, str]:
    return sample_keys(path)


def open_shards(shards: str | os.PathLike | Iterable[str | os.PathLike], split: str | None = None) -> Index:
    """The samples of a pattern ('train-{000000..000146}.tar', 'train-*.tar'), a file, a folder, or a list of these.

    `split` picks one of several splits in a folder. Each shard is scanned once; later opens read the cache.
    Raises FileNotFoundError for what is missing and ValueError for what is damaged.
    """
    parts = [shards] if isinstance(shards, (str, os.PathLike)) else shards
    names = [name for part in parts for name in _expand(os.fspath(part), split) if name]
    if not names:
        raise FileNotFoundError("no shards are named; give a pattern, a file, a folder or a list of these")
    _refuse_missing(names)
    _refuse_repeated(names)
    paths, tables = zip(*_read_all(names), strict=True)
    classes = _compare_with_manifests(names, [table.shape[1] for table in tables])
    offset, size, label = np.concatenate(tables, axis=1)
    if not len(label):
        raise ValueError(f"{_some(names)}: no sample in {len(names)} shards")
    shard = np.repeat(np.arange(len(names)), [table.shape[1] for table in tables])
    return Index(tuple(map(Shard, names, paths)), shard, offset, size, label, classes)


def _expand(pattern: str, split: str | None) -> list[str]:
    pattern = os.path.expanduser(pattern)
    if os.path.isdir(pattern):
        return _in_folder(Path(pattern), split)
    if os.path.isfile(pattern):
        return [pattern]
    if "://" in pattern or pattern.startswith("pipe:"):
        raise ValueError(f"{pattern}: only local shards can be read; copy them to a folder first")
    names = []
    for part in expand_urls(pattern):
        found = sorted(glob.glob(part)) if glob.has_magic(part) and not os.path.exists(part) else [part]
        if not found:
            raise FileNotFoundError(f"no shard matches {part}")
        names += found
    return names


def _in_folder(folder: Path, split: str | None) -> list[str]:
    manifest = read_manifest(folder)
    if manifest is None:
        found = sorted(str(p) for p in folder.iterdir() if p.name.endswith(SUFFIXES))
        found = [name for name in found if split is None or os.path.basename(name).startswith(split)]
        if not found:
            raise FileNotFoundError(
                f"{folder} holds no shards ({', '.join(SUFFIXES)})" + (f" of {split}" if split else "")
            )
        return found
    splits = list(manifest["splits"])
    if split is None and len(splits) > 1:
        raise ValueError(f"{folder} holds the splits {', '.join(splits)}; take one: {folder}/{splits[0]}-*.tar")
    if split is not None and split not in splits:
        raise ValueError(f"{folder} holds the splits {', '.join(splits)}, not {split}")
    return [str(folder / shard["name"]) for shard in manifest["splits"][split or splits[0]]["shards"]]


def _refuse_missing(names: list[str]) -> None:
    missing = [name for name in names if not os.path.isfile(name)]
    if missing:
        raise FileNotFoundError(f"{len(missing)} of {len(names)} shards are missing: {_some(missing)}")


def _refuse_repeated(names: list[str]) -> None:
    times = Counter(os.path.realpath(name) for name in names)
    repeated = [name for name, count in times.items() if count > 1]
    if repeated:
        raise ValueError(f"the same shard is given twice: {_some(repeated)}; every sample is read once an epoch")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _read_all(names: list[str]) -> list[tuple[str, np.ndarray]]:
    workers = min(len(names), os.cpu_count() or 1) if len(names) >= POOL_FROM else 0
    with progress_bar(visible=len(names) >= POOL_FROM) as bar:
        return list(bar.track(process_map(read_shard, names, workers), len(names), description="reading shards"))


def _compare_with_manifests(names: list[str], counts: list[int]) -> tuple[str, ...] | None:
    """The class names of the index.json beside the shards. Raises ValueError where counts or classes differ."""
    manifests = {folder: read_manifest(Path(folder)) for folder in {os.path.dirname(name) for name in names}}
    stated = {folder: samples_per_shard(m) for folder, m in manifests.items() if m is not None}
    for name, count in zip(names, counts, strict=True):
        folder, base = os.path.split(name)
        wanted = stated.get(folder, {}).get(base, count)
        if count != wanted:
            raise ValueError(
                f"{name} holds {count} samples, {folder}/index.json says {wanted}; fetch or write it again"
            )
    classes = {tuple(m["classes"]) for m in manifests.values() if m and m.get("classes")}
    if len(classes) > 1:
        raise ValueError(f"the shards of {', '.join(sorted(stated))} have different classes")
    return classes.pop() if classes else None
