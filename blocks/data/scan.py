"""What lies where in a tar: one pass over the headers. Nothing in a tar is ever used as a path."""

import gzip
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from blocks.data.cache import cache_folder, fingerprint, once
from blocks.data.decode import EXTENSIONS

FORMAT = "1"  # of the cached arrays
LABEL_BYTES = 18  # of digits: they fit 64 bits


def read_shard(path: str) -> tuple[str, np.ndarray]:
    """A shard's plain tar and its samples: (path, int64 [3, N] of offset, size, label), from the cache if it is there.

    Raises ValueError that names the shard for a truncated or damaged one, and the sample for a missing image or label.
    """
    tar_path = _unpacked(path)
    cached = cache_folder() / "index" / f"{fingerprint(path)}-{FORMAT}.npy"
    once(cached, lambda target: np.save(target, _scan(tar_path, path)))
    return tar_path, np.load(cached, allow_pickle=False)


def sample_keys(tar_path: str) -> dict[int, str]:
    """The key of every image of a tar by its offset: for messages, so that the index need not hold them."""
    return {image.offset_data: key for key, image, _, _ in _samples(tar_path, tar_path)}


def _unpacked(path: str) -> str:
    with open(path, "rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return path
    return str(once(cache_folder() / "unpacked" / f"{fingerprint(path)}.tar", lambda target: _gunzip(path, target)))


def _gunzip(path: str, target: Path) -> None:
    try:
        with gzip.open(path) as source, open(target, "wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is truncated or damaged ({error}); {_WAY_OUT}") from None


_WAY_OUT = "fetch or write it again, or leave it out of the shards"


def _scan(tar_path: str, name: str) -> np.ndarray:
    rows = []
    for key, image, label, file in _samples(tar_path, name):
        if label.size > LABEL_BYTES:
            raise ValueError(f"{name}, sample {key}: the label has {label.size} bytes; write a class number")
        text = os.pread(file.fileno(), label.size, label.offset_data)
        try:
            rows.append((image.offset_data, image.size, int(text)))
        except ValueError:
            raise ValueError(f"{name}, sample {key}: label {text!r} is not an integer; write a class number") from None
    return np.array(rows, np.int64).reshape(-1, 3).T


def _samples(tar_path: str, name: str) -> Iterator[tuple[str, tarfile.TarInfo, tarfile.TarInfo, BinaryIO]]:
    """(key, image, label, open tar) of every sample: neighbours with one name up to the first dot, as in webdataset."""
    with open(tar_path, "rb") as file:
        current, parts = "", dict[str, tarfile.TarInfo]()
        for member in _members(file, tar_path, name):
            key, extension = _split_name(member.name)
            if key != current and parts:
                yield current, *_image_and_label(parts, name, current), file
                parts = {}
            kind = "image" if extension in EXTENSIONS else extension
            if kind in parts:
                raise ValueError(f"{name}, sample {key}: {parts[kind].name} and {member.name}; one {kind} is wanted")
            current, parts[kind] = key, member
        if parts:
            yield current, *_image_and_label(parts, name, current), file


def _members(file: BinaryIO, tar_path: str, name: str) -> Iterator[tarfile.TarInfo]:
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
        size = os.path.getsize(tar_path)
        raise ValueError(
            f"{name} is truncated or damaged ({reason}; {size} bytes): {count} files in it are readable; {_WAY_OUT}"
        )


def _split_name(path: str) -> tuple[str, str]:
    folder, _, base = path.rpartition("/")
    stem, _, extension = base.partition(".")
    return (f"{folder}/{stem}" if folder else stem), extension.lower()


def _image_and_label(parts: dict[str, tarfile.TarInfo], name: str, key: str) -> tuple[tarfile.TarInfo, tarfile.TarInfo]:
    if "image" not in parts:
        raise ValueError(f"{name}, sample {key}: no image among {sorted(parts)}; wanted one of {', '.join(EXTENSIONS)}")
    if "cls" not in parts:
        raise ValueError(f"{name}, sample {key}: no label; wanted {key}.cls with a class number")
    return parts["image"], parts["cls"]
