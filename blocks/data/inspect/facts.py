"""A census as plain facts, for machines as they are: dicts, lists, numbers and strings."""

import os
from collections import Counter
from itertools import islice
from typing import Any

import numpy as np

from blocks.data.index.index import Index
from blocks.data.index.scan import NO_LABEL
from blocks.data.inspect.census import Census
from blocks.data.storage.shard import RemoteShard, Shard

Facts = dict[str, Any]
FIRST = 20  # of what may be very many: duplicates, samples with wrong labels, empty classes
COMMON = 5  # sizes


def gather(index: Index, census: Census) -> Facts:
    """What shards hold; lengths in pixels, sizes in bytes, shares from 0 to 1."""
    return {
        "shards": _shards(index),
        "samples": len(index),
        "classes": _classes(index),
        "wrong_labels": _wrong_labels(index),
        "incomplete": [
            {**_whereabouts(index, sample), "reason": index.why_incomplete(sample)}
            for sample in index.incomplete.tolist()
        ],
        "pictures": _pictures(index, census),
        "duplicates": _duplicates(index, census.digests),
        "damaged": [
            {**_whereabouts(index, sample), "reason": reason}
            for sample, reason in sorted(census.damaged.items())
            if not index.lacks_image(sample)  # which is told above
        ],
    }


def _shards(index: Index) -> list[Facts]:
    counts = np.bincount(index.shard, minlength=len(index.shards)).tolist()
    return [
        {"name": shard.name, "samples": count, "bytes": _bytes(shard)}
        for shard, count in zip(index.shards, counts, strict=True)
    ]


def _bytes(shard: Shard) -> int:
    """Of the shard as it is stored, packed if it is; of a pipe, which does not tell, as it came."""
    if isinstance(shard, RemoteShard):
        return shard.expected.bytes or os.path.getsize(shard.local())
    return os.path.getsize(shard.name)


def _classes(index: Index) -> Facts:
    """Counts of the classes that have samples, in the order of their labels, and the first of those that have none."""
    labels, counts = np.unique(index.label[_in_range(index)], return_counts=True)
    present = set(labels.tolist())
    empty = (label for label in range(index.num_classes) if label not in present)
    return {
        "labelled": index.labelled,
        "classes": index.num_classes,
        "named": index.classes is not None,
        "counts": [
            {"label": label, "name": class_name(index, label), "samples": count}
            for label, count in zip(labels.tolist(), counts.tolist(), strict=True)
        ],
        "largest_by_smallest": float(counts.max() / counts.min()) if len(counts) else None,
        "empty": index.num_classes - len(present),
        "first_empty": [class_name(index, label) for label in islice(empty, FIRST)],
    }


def class_name(index: Index, label: int) -> str:
    """What the shards call a class, or else its number; of a sample without a label that."""
    if label == NO_LABEL:
        return "no label"
    return index.classes[label] if index.classes and 0 <= label < len(index.classes) else str(label)


def _in_range(index: Index) -> np.ndarray:
    return (index.label >= 0) & (index.label < index.num_classes)


def _wrong_labels(index: Index) -> Facts:
    wrong = np.flatnonzero(~_in_range(index) & (index.label != NO_LABEL))
    first = [{**_whereabouts(index, sample), "label": int(index.label[sample])} for sample in wrong[:FIRST].tolist()]
    return {"samples": len(wrong), "first": first}


def _pictures(index: Index, census: Census) -> Facts:
    """The readable ones; file sizes are of all."""
    sizes = np.array(list(census.sizes), np.int64).reshape(-1, 2)
    times = np.fromiter(census.sizes.values(), np.int64, len(sizes))
    widths, heights = sizes.T
    total = max(1, census.sizes.total())
    return {
        "readable": census.sizes.total(),
        "blank": census.blank[True],
        "formats": _by_count(census.formats),
        "modes": _by_count(census.modes),
        "width": _spread(np.repeat(widths, times)),
        "height": _spread(np.repeat(heights, times)),
        "different_sizes": len(sizes),
        "common_sizes": [
            {"width": width, "height": height, "pictures": count}
            for (width, height), count in census.sizes.most_common(COMMON)
        ],
        "portrait": float(times[heights > widths].sum() / total),
        "landscape": float(times[heights < widths].sum() / total),
        "bytes": _spread(index.size),
    }


def _by_count(counts: Counter[str]) -> dict[str, int]:
    return dict(counts.most_common())


def _spread(values: np.ndarray) -> Facts | None:
    """The smallest, the middle and the largest; None of nothing."""
    if not len(values):
        return None
    return {"min": int(values.min()), "median": float(np.median(values)), "max": int(values.max())}


def _duplicates(index: Index, digests: list[bytes]) -> Facts:
    """Groups of samples with the same bytes: of one label, or of several."""
    groups: dict[bytes, list[int]] = {}
    times = Counter(digest for digest in digests if digest)
    for sample, digest in enumerate(digests):
        if times[digest] > 1:
            groups.setdefault(digest, []).append(sample)
    across = [samples for samples in groups.values() if len(np.unique(index.label[samples])) > 1]
    within = [samples for samples in groups.values() if len(np.unique(index.label[samples])) == 1]
    return {"within_classes": _groups(index, within), "across_classes": _groups(index, across)}


def _groups(index: Index, groups: list[list[int]]) -> Facts:
    first = [
        [{**_whereabouts(index, sample), "label": _label(index, sample)} for sample in samples[:FIRST]]
        for samples in groups[:FIRST]
    ]
    return {"groups": len(groups), "samples": sum(map(len, groups)), "first": first}


def _label(index: Index, sample: int) -> int | None:
    """None of a sample without one."""
    return None if index.label[sample] == NO_LABEL else int(index.label[sample])


def _whereabouts(index: Index, sample: int) -> Facts:
    """A sample's shard and key; of a shard that is too damaged to tell, the place of the picture's bytes."""
    shard = index.shards[index.shard[sample]].name
    try:
        key = sample_key(index, sample)
    except (ValueError, OSError, KeyError):
        key = f"byte {index.offset[sample]}"
    return {"shard": shard, "key": key}


def sample_key(index: Index, sample: int) -> str:
    """What a shard calls a sample. Raises ValueError or OSError where the shard cannot be read."""
    return index.name(sample).removeprefix(f"{index.shards[index.shard[sample]].name}, ").removeprefix("sample ")
