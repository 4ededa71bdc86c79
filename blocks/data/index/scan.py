"""What lies where in a tar: one pass over the headers. Nothing in a tar is ever used as a path."""

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from blocks.data.decode import EXTENSIONS
from blocks.data.storage.cache import cache_folder, once
from blocks.data.storage.shard import WAY_OUT, CachedShard, Shard

FORMAT = "1"  # of the cached arrays
LABEL_BYTES = 18  # of digits: they fit 64 bits
NO_LABEL = np.iinfo(np.int64).min  # which no text of so many bytes says
Member = tarfile.TarInfo
Sample = tuple[str, Member, Member | None, Member | None]  # key, the member it is found by, image, label


def read_table(shard: Shard) -> np.ndarray:
    """A shard's samples, int64 [3, N] of offset, size, label (or NO_LABEL), from the cache if they are there.

    One without an image has size 0 and NO_LABEL. Raises ValueError that names the shard for a truncated or damaged one.
    """
    table = once(_cached(shard), lambda target: np.save(target, _scan(shard)))
    return np.load(table, allow_pickle=False)


def is_scanned(shard: Shard) -> bool:
    """Whether `read_table` need not look into the shard."""
    return _cached(shard).exists()


def sample_keys(tar_path: str) -> dict[int, str]:
    """The key of every sample of a tar by its offset: for messages, so that the index need not hold them."""
    with open(tar_path, "rb") as file:
        return {place.offset_data: key for key, place, _, _ in _samples(file, tar_path)}


def _cached(shard: Shard) -> Path:
    return cache_folder() / "index" / f"{shard.identity()}-{FORMAT}.npy"


def _scan(shard: Shard) -> np.ndarray:
    try:
        with os.fdopen(shard.open(), "rb") as file:
            return _table(file, shard.name)
    except ValueError:
        if isinstance(shard, CachedShard):
            shard.discard()  # or it would be found there when the source is whole again
        raise


def _table(file: BinaryIO, name: str) -> np.ndarray:
    rows = []
    for key, place, image, label in _samples(file, name):
        number = NO_LABEL if image is None or label is None else _number(file, label, f"{name}, sample {key}")
        rows.append((place.offset_data, image.size if image else 0, number))
    return np.array(rows, np.int64).reshape(-1, 3).T


def _number(file: BinaryIO, label: tarfile.TarInfo, where: str) -> int:
    """What a .cls says; one without a byte is none."""
    if label.size > LABEL_BYTES:
        raise ValueError(f"{where}: the label has {label.size} bytes; write a class number")
    text = os.pread(file.fileno(), label.size, label.offset_data)
    try:
        return int(text) if text.strip() else NO_LABEL
    except ValueError:
        raise ValueError(f"{where}: label {text!r} is not an integer; write a class number") from None


def _samples(file: BinaryIO, name: str) -> Iterator[Sample]:
    """Every sample: neighbours with one name up to the first dot, as in webdataset.

    A README, .DS_Store or a Mac's ._0001.jpg has no such name or no extension, and is no part of a sample there either.
    """
    current, parts = "", dict[str, Member]()
    for member in _members(file, name):
        key, extension = _split_name(member.name)
        if not extension or not os.path.basename(key):
            continue
        if key != current and parts:
            yield _sample(current, parts)
            parts = {}
        kind = "image" if extension in EXTENSIONS else extension
        if kind in parts:
            raise ValueError(f"{name}, sample {key}: {parts[kind].name} and {member.name}; one {kind} is wanted")
        current, parts[kind] = key, member
    if parts:
        yield _sample(current, parts)


def _members(file: BinaryIO, name: str) -> Iterator[tarfile.TarInfo]:
    """Regular files of a tar. Raises ValueError unless the tar ends with the block of zeros that closes it.

    tarfile itself takes damage behind the first header for the end.
    """
    count, end = 0, 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.isreg() and not member.issparse():
                    yield member
                    count += 1
                tar.members = []  # type: ignore[attr-defined]  # or it keeps every header
            end = tar.offset
        whole = os.pread(file.fileno(), tarfile.BLOCKSIZE, end) == bytes(tarfile.BLOCKSIZE)
        reason = "" if whole else f"no valid header at byte {end}"
    except tarfile.ReadError as error:
        reason = str(error)
    if reason:
        size = os.fstat(file.fileno()).st_size
        raise ValueError(
            f"{name} is truncated or damaged ({reason}; {size} bytes): {count} files in it are readable; {WAY_OUT}"
        )


def _split_name(path: str) -> tuple[str, str]:
    folder, _, base = path.rpartition("/")
    stem, _, extension = base.partition(".")
    return (f"{folder}/{stem}" if folder else stem), extension.lower()


def _sample(key: str, parts: dict[str, Member]) -> Sample:
    image = parts.get("image")
    return key, image or next(iter(parts.values())), image, parts.get("cls")
