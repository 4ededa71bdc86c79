"""A part of a source set aside to validate on, chosen by the names of its files."""

import hashlib
import os
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from blocks.checks import is_within
from blocks.data.writing.source import Files, Source

BITS = 64  # of a name's hash


def with_val(sources: Mapping[str, Source], val_share: Any) -> dict[str, Source]:
    """A single source as two: about this share of every class becomes val.

    Which picture does follows from its path below the source alone: more pictures move none of the others. Only a class
    of which none would be on one of the sides gives it its first or last by hash, from two pictures on. Raises
    ValueError for a share that is not between 0 and 1, and for what has splits already, no files or no labels.
    """
    if not is_within(val_share, 0, 1) or val_share in (0, 1):
        raise ValueError(f"val_share {val_share!r} is not between 0 and 1; 0.1 sets a tenth of every class aside")
    if list(sources) != ["train"]:
        raise ValueError(f"val_share {val_share} and the splits {', '.join(sources)} do not fit; leave out val_share")
    source = sources["train"]
    if not source.labelled:
        raise ValueError(
            f"val_share {val_share} is for pictures with labels; pretraining without them needs no val: leave it out"
        )
    if not isinstance(source.items, Files):
        raise ValueError(f"val_share {val_share} goes by files' names, and {source.name} has none; give both splits")
    chosen = _chosen(source.items, val_share)
    if not chosen:
        raise ValueError(f"val_share {val_share} of {source.name}: no class has two pictures; give more of them")
    rest = [i for i in range(len(source.items)) if i not in chosen]
    return {"train": _part(source, rest), "val": attrs.evolve(_part(source, sorted(chosen)), ignored=())}


def _chosen(files: Files, share: float) -> set[int]:
    """The numbers of the files for val."""
    members: dict[int, list[tuple[int, int]]] = {}
    for i, label in enumerate(files.labels):
        members.setdefault(label, []).append((_hash(files.paths[i]), i))
    return {i for each in members.values() for i in _of_class(sorted(each), share)}


def _of_class(ordered: list[tuple[int, int]], share: float) -> Iterable[int]:
    """Those below the share, but one at least, and not all."""
    below = sum(value < share * 2**BITS for value, _ in ordered)
    count = min(max(below, 1), len(ordered) - 1)
    return (i for _, i in ordered[:count])


def _hash(path: str) -> int:
    """Of a Mac's and of all others' spelling alike."""
    digest = hashlib.sha256(os.fsencode(unicodedata.normalize("NFC", path))).digest()
    return int.from_bytes(digest[: BITS // 8])


def _part(source: Source, numbers: list[int]) -> Source:
    files = source.items
    assert isinstance(files, Files)
    metadata = [files.metadata[i] for i in numbers] if files.metadata else ()
    part = Files(files.root, [files.paths[i] for i in numbers], [files.labels[i] for i in numbers], metadata)
    return attrs.evolve(source, items=part, identity=part.identity())
