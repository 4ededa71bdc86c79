"""All samples of some shards as flat arrays: reading data is index arithmetic from here on."""

import os
from collections import Counter
from collections.abc import Iterable

import attrs
import numpy as np

from blocks.data.decode import EXTENSIONS
from blocks.data.index.classes import Classes, common_classes, refuse_above, renumbering
from blocks.data.index.files import IndexFiles
from blocks.data.index.patterns import expand
from blocks.data.index.places import resolved
from blocks.data.index.scan import NO_LABEL
from blocks.data.index.tables import open_tables
from blocks.data.index.told import files_of, key_of
from blocks.data.printable import printable
from blocks.data.storage import Retries, ShardCache
from blocks.data.storage.fetch import is_remote
from blocks.data.storage.shard import Shard
from blocks.secrets import hiding_secrets


@attrs.frozen(eq=False, repr=False)
class Index:
    """Where each of N samples lies: in `shards[shard[i]]`, from byte `offset[i]`, `size[i]` bytes; arrays int64 [N].

    Samples of which a shard holds no label have NO_LABEL; those of which it holds no image too, and size 0. Where the
    samples are not `labelled` none of them misses one.
    """

    shards: tuple[Shard, ...]
    shard: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    label: np.ndarray
    classes: tuple[str, ...] | None = None
    labelled: bool = True

    def __len__(self) -> int:
        return len(self.label)

    @property
    def num_classes(self) -> int:
        """As many as the shards' index.json names; without one, the largest label plus 1; 0 without labels."""
        if not self.labelled:
            return 0
        return len(self.classes) if self.classes else max(int(self.label.max()), -1) + 1

    @property
    def incomplete(self) -> np.ndarray:
        """The samples that have no image, or no label where they should, int64 [n]."""
        return np.flatnonzero((self.label == NO_LABEL) & (self.labelled | (self.size == 0)))

    def is_incomplete(self, sample: int) -> bool:
        """Whether it is one of the incomplete ones."""
        return bool(self.label[sample] == NO_LABEL and (self.labelled or self.size[sample] == 0))

    def __repr__(self) -> str:
        return f"Index({len(self)} samples in {len(self.shards)} shards)"

    def name(self, sample: int) -> str:
        """A sample's shard and key, for messages; where the shard is not here, its offset."""
        shard, offset = self.shards[self.shard[sample]], int(self.offset[sample])
        key = key_of(shard, offset)
        return f"{shard.name}, sample {printable(key)}" if key is not None else f"{shard.name}, byte {offset}"

    @property
    def what_lacks(self) -> str:
        """What the incomplete ones have none of, for messages."""
        if not self.labelled:
            return "image"
        return "label or no image" if (self.size[self.incomplete] == 0).any() else "label"

    def lacks_image(self, sample: int) -> bool:
        """Whether the shard holds no image of it."""
        return bool(self.label[sample] == NO_LABEL and self.size[sample] == 0)

    def why_incomplete(self, sample: int) -> str:
        """What the shard lacks, for messages."""
        name = self.name(sample)
        key = name.rpartition(", sample ")[2].rpartition("/")[2] if ", sample " in name else "KEY"
        if self.lacks_image(sample):
            return f"no image; wanted {key}.{EXTENSIONS[0]} (or {', '.join(EXTENSIONS[1:])})"
        return f"no label; wanted {key}.cls with a class number"

    def take(self, samples: np.ndarray) -> "Index":
        """An index of these samples alone, in this order. Raises ValueError for none, and where one is there twice or
        not at all.
        """
        samples = np.asarray(samples)
        whole = samples.dtype.kind in "iu" and len(samples)  # no mask, whose numbers are 0 and 1
        if not whole or len(np.unique(samples)) != len(samples) or not np.isin(samples, np.arange(len(self))).all():
            raise ValueError(
                f"samples must be different numbers from 0 to {len(self) - 1}, one or more; of a mask np.flatnonzero "
                "gives them"
            )
        columns = {name: getattr(self, name)[samples] for name in ("shard", "offset", "size", "label")}
        return attrs.evolve(self, **columns)

    def without_labels(self) -> "Index":
        """The same pictures, none with a label: for pretraining on a set of which few have one."""
        return attrs.evolve(self, label=np.full_like(self.label, NO_LABEL), classes=None, labelled=False)

    def in_order_of(self, classes: Iterable[str]) -> "Index":
        """The same samples, their labels numbered by these names: of a model, and it may have more than the samples.

        Without names of its own the index keeps its numbers. Raises ValueError for samples of none of these classes.
        """
        wanted = tuple(classes)
        if not self.labelled or self.classes == wanted:
            return self
        known = self.label != NO_LABEL
        label = self.label.copy()
        if self.classes is None:
            refuse_above(label, wanted)
        else:
            self.check_labels(len(self.classes))
            label[known] = renumbering(self.classes, wanted, label[known])[label[known]]
        return attrs.evolve(self, label=label, classes=wanted)

    def check_labels(self, num_classes: int) -> None:
        """Raises ValueError that names a sample whose label is not below num_classes."""
        wrong = np.flatnonzero(((self.label < 0) | (self.label >= num_classes)) & (self.label != NO_LABEL))
        if len(wrong):
            raise ValueError(
                f"{self.name(wrong[0])}: label {self.label[wrong[0]]} is not one of {num_classes} classes "
                f"(0 to {num_classes - 1}), as in {len(wrong)} of {len(self)} samples; the largest label is "
                f"{self.label.max()}, so num_classes={self.label.max() + 1} would hold them"
            )


@hiding_secrets()
def open_shards(
    shards: str | os.PathLike | Iterable[str | os.PathLike],
    split: str | None = None,
    retries: Retries = Retries(),  # noqa: B008  frozen
    cache: ShardCache | None = None,
    need_labels: bool = True,
) -> Index:
    """The samples of a pattern ('train-{000000..000146}.tar', 'train-*.tar'), a file, a folder, or a list of these.

    Each may be a path, a URL (https://, https://user:password@host, and s3://, gs://, hf:// ... through fsspec), or
    pipe:COMMAND; no name or message shows a URL's password, token or signature. `split` picks one of several splits in
    a folder. With an index.json and its table beside the shards nothing else is read, but three samples' headers of
    each plain tar here, to see that it is the one of the index; without, each shard is scanned once, and fetched for
    it; later opens read the cache. Remote shards are fetched when they are read, into `cache` (None:
    ShardCache.from_environment()). A pipe is taken to give the same bytes at every run, and so is, with a warning, a
    URL without an index.json whose server tells neither length, ETag nor time of it. Pictures without a single label
    are an error, unless `need_labels` is false.
    Raises FileNotFoundError for what is missing, ValueError for what is damaged or half-finished, FetchError for
    what is out of reach.
    """
    parts = [shards] if isinstance(shards, (str, os.PathLike)) else shards
    files = IndexFiles(retries)
    places = [place for part in parts if os.fspath(part) for place in expand(os.fspath(part), split, files)]
    names = [place.name for place in places]
    if not names:
        raise FileNotFoundError("no shards are named; give a pattern, a file, a folder, a URL or a list of these")
    _refuse_missing(names)
    _refuse_repeated(names)
    classes = common_classes(_named({place.folder for place in places}, files))
    opened, tables = open_tables(places, files, cache)
    offset, size, label = np.concatenate(tables, axis=1)
    if not len(label):
        raise ValueError(f"{_some(names)}: no sample in {len(names)} shards")
    shard = np.repeat(np.arange(len(names)), [table.shape[1] for table in tables])
    index = Index(tuple(opened), shard, offset, size, label, classes)
    if not need_labels and (label == NO_LABEL).all():
        index = index.without_labels()
    _refuse_incomplete(index)
    return index


def _refuse_incomplete(index: Index) -> None:
    """Raises ValueError where not a single sample is whole."""
    if len(index.incomplete) < len(index):
        return
    lacks = "an image" if not index.labelled else f"a {index.what_lacks.replace('or no', 'and an')}"
    found = ", ".join(files_of(index.shards[index.shard[0]], int(index.offset[0])))
    way_out = f"; it has {found}" if found else ""
    if index.labelled and index.size.any():
        way_out += "; images alone are for recipes/pretrain_*.py, in Python for open_shards(..., need_labels=False)"
    raise ValueError(f"none of {len(index)} samples has {lacks}: {index.name(0)}: {index.why_incomplete(0)}{way_out}")


def _refuse_missing(names: list[str]) -> None:
    missing = [name for name in names if not is_remote(name) and not os.path.isfile(name)]
    if missing:
        raise FileNotFoundError(f"{len(missing)} of {len(names)} shards are missing: {_some(missing)}")


def _refuse_repeated(names: list[str]) -> None:
    times = Counter(map(resolved, names))
    repeated = [name for name, count in times.items() if count > 1]
    if repeated:
        raise ValueError(f"the same shard is given twice: {_some(repeated)}; every sample is read once an epoch")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _named(folders: set[str], files: IndexFiles) -> list[tuple[str, Classes]]:
    """What each folder's index calls the classes."""
    return [(folder, index.classes) for folder in sorted(folders) if (index := files.at(folder))]
