"""What lies where in a tar: one pass over the headers. Nothing in a tar is ever used as a path."""

import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from blocks.data.decode import EXTENSIONS
from blocks.data.printable import printable
from blocks.data.storage.cache import cache_folder, once
from blocks.data.storage.shard import WAY_OUT, CachedShard, Shard

FORMAT = "2"  # of the cached arrays, and of what is refused
LABEL_BYTES = 18  # of the longest text that may be a class number
MAX_CLASSES = 1 << 24  # the index counts each of them
NO_LABEL = np.iinfo(np.int64).min
LOOKED_AT = 1 << 20  # bytes at a time of what follows a tar's end
Member = tarfile.TarInfo
Row = tuple[int, int, int]  # of one sample: offset, size, label
Parts = dict[str, Member]  # a sample's files: "image", "cls", and others by their extension


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
        return {_place(parts).offset_data: key for key, parts in _samples(file, tar_path)}


def sample_files(tar_path: str, offset: int) -> list[str]:
    """The names of all files of the sample at this offset: for messages."""
    with open(tar_path, "rb") as file:
        found = (parts for _, parts in _samples(file, tar_path) if _place(parts).offset_data == offset)
        return [member.name for member in next(found, Parts()).values()]


def rows(file: BinaryIO, name: str) -> Iterator[Row]:
    """(offset, size, label or NO_LABEL) of every sample from where the file stands; `name` is for messages."""
    for key, parts in _samples(file, name):
        image, label = parts.get("image"), parts.get("cls")
        number = NO_LABEL if image is None or label is None else _number(file, label, f"{name}, sample {key}")
        yield _place(parts).offset_data, image.size if image else 0, number


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
    return np.array(list(rows(file, name)), np.int64).reshape(-1, 3).T


def _number(file: BinaryIO, label: Member, where: str) -> int:
    """What a .cls says; one without a byte is none."""
    text = os.pread(file.fileno(), min(label.size, LABEL_BYTES + 1), label.offset_data)
    if len(text) <= LABEL_BYTES:
        if not text.strip():
            return NO_LABEL
        if re.fullmatch(rb"\s*[0-9]+\s*", text) and int(text) < MAX_CLASSES:
            return int(text)
    said = repr(text) if len(text) <= LABEL_BYTES else f"of {label.size} bytes"
    raise ValueError(
        f"{where}: label {said} is no class number; write 0, 1, 2 ... to {MAX_CLASSES - 1} at most, or leave "
        f"{printable(os.path.basename(label.name))} out where there is none"
    )


def _samples(file: BinaryIO, name: str) -> Iterator[tuple[str, Parts]]:
    """(key, files) of every sample: neighbours with one name up to the first dot, as in webdataset.

    Raises ValueError where an image lies in one place of the tar and its label in another.
    """
    halves = dict[str, bool]()  # of what has an image or a label and not both: which
    for key, parts in _neighbours(file, name):
        half = "image" in parts
        if half != ("cls" in parts) and halves.setdefault(key, half) != half:
            raise ValueError(
                f"{name}, sample {key}: its image and its label are not neighbours in the tar, as a sample's files "
                "must be; write it again with tar --sort=name"
            )
        yield key, parts


def _neighbours(file: BinaryIO, name: str) -> Iterator[tuple[str, Parts]]:
    """A README, .DS_Store or a Mac's ._0001.jpg has no name or no extension, and is no part of a sample."""
    current = ""
    parts: Parts = {}
    for member in _members(file, name):
        key, extension = _split_name(member.name)
        if not extension or not os.path.basename(key):
            continue
        if key != current and parts:
            yield current, parts
            parts = {}
        kind = "image" if extension in EXTENSIONS else extension
        if kind in parts:
            raise ValueError(f"{name}, sample {key}: {parts[kind].name} and {member.name}; one {kind} is wanted")
        if kind in ("image", "cls") and not member.isreg():
            raise ValueError(
                f"{name}: {printable(member.name)} is a link to {printable(member.linkname)}; write the tar again with "
                "files in place of links: tar --dereference --hard-dereference"
            )
        current, parts[kind] = key, member
    if parts:
        yield current, parts


def _place(parts: Parts) -> Member:
    """The file that a sample is found by: its image, else its first."""
    return parts.get("image") or next(iter(parts.values()))


def _members(file: BinaryIO, name: str) -> Iterator[Member]:
    """Regular files of a tar, and links. Raises ValueError unless the tar ends with the block of zeros that closes it,
    and nothing behind.

    tarfile itself takes damage behind the first header for the end.
    """
    count, reason = 0, ""
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if (member.isreg() and not member.issparse()) or member.islnk() or member.issym():
                    yield member
                    count += 1
                tar.members = []  # type: ignore[attr-defined]  # or it keeps every header
            reason = _no_end(file, tar.offset)
    except tarfile.ReadError as error:
        reason = str(error)
    if reason:
        size = os.fstat(file.fileno()).st_size
        raise ValueError(
            f"{name} is truncated or damaged ({reason}; {size} bytes): {count} files in it are readable; {WAY_OUT}"
        )


def _no_end(file: BinaryIO, end: int) -> str:
    """Why a tar does not end where its files do, "" if it does."""
    if os.pread(file.fileno(), tarfile.BLOCKSIZE, end) != bytes(tarfile.BLOCKSIZE):
        return f"no valid header at byte {end}"
    for start in range(end, os.fstat(file.fileno()).st_size, LOOKED_AT):
        if os.pread(file.fileno(), LOOKED_AT, start).strip(b"\0"):
            return f"more than zeros behind its end at byte {end}, as cat leaves them; tar -A joins tars"
    return ""


def _split_name(path: str) -> tuple[str, str]:
    folder, _, base = path.rpartition("/")
    stem, _, extension = base.partition(".")
    return (f"{folder}/{stem}" if folder else stem), extension.lower()
