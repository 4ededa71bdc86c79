"""Samples to webdataset shards. A shard gets its name when it is whole; equal samples give equal bytes."""

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any

from blocks.data.writing.item import check_key

BLOCK = tarfile.BLOCKSIZE
Members = dict[str, tuple[int, int]]  # a sample's files by extension: (offset, size) in its tar


def write_shards(
    samples: Iterable[dict[str, Any]],
    folder: str | os.PathLike,
    prefix: str,
    samples_per_shard: int = 10_000,
    bytes_per_shard: int = 1_000_000_000,
) -> list[dict[str, Any]]:
    """Write folder/prefix-000000.tar ... and give [{"name", "samples", "bytes", "sha256"}] of them.

    A sample is a webdataset dict: {"__key__": "0001", "jpg": bytes, "cls": b"3"}. A shard ends at either limit.
    If anything fails, the shards written by this call are removed. `write_dataset` takes pictures, and adds an index.
    Raises ValueError where the folder holds shards of this prefix: what was left of more of them would be read too;
    for no sample at all, and for one that readers would not find again.
    """
    check_limits(samples_per_shard, bytes_per_shard)
    folder, samples = Path(folder), _checked(samples)
    shards: list[dict[str, Any]] = []
    folder.mkdir(parents=True, exist_ok=True)
    _refuse_shards(folder, prefix)
    try:
        for first in samples:
            path = folder / shard_name(prefix, len(shards))
            shards.append(write_shard(chain([first], samples), path, samples_per_shard, bytes_per_shard)[0])
    except BaseException:
        for shard in shards:
            (folder / shard["name"]).unlink(missing_ok=True)
        raise
    if not shards:
        raise ValueError(f"there is no sample to write to {folder}; an iterator gives its samples once")
    return shards


def _checked(samples: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The samples, each with a key of its own and files. Raises ValueError that names the one without."""
    last = None
    for sample in samples:
        if "__key__" not in sample:
            raise ValueError(f"a sample has {', '.join(sample)} and no __key__; its files are named by that")
        key = sample["__key__"]
        check_key(key)
        if key == last:
            raise ValueError(f"key {key!r} is given twice in a row, which is one sample to readers; give each its own")
        _check_files(key, {name: sample[name] for name in _extensions(sample)})
        last = key
        yield sample


def _check_files(key: str, files: dict[str, Any]) -> None:
    if not files:
        raise ValueError(f"{key}: no file; give its bytes by extension: {{'jpg': ..., 'cls': b'3'}}")
    for extension, data in files.items():
        if not isinstance(data, bytes):
            instead = f"bytes: {str(data).encode()!r}" if isinstance(data, int) else "bytes, or use write_dataset"
            raise ValueError(f"{key}: {extension} is of type {type(data).__name__}; give {instead}")


def _extensions(sample: dict[str, Any]) -> list[str]:
    return sorted(name for name in sample if not name.startswith("_"))  # "__key__", "__url__": no files


def _refuse_shards(folder: Path, prefix: str) -> None:
    name = re.compile(rf"{re.escape(prefix)}-\d+\.tar")
    found = sorted(path.name for path in folder.iterdir() if name.fullmatch(path.name))
    if found:
        raise ValueError(
            f"{folder} holds shards of {prefix} already ({found[0]}, {len(found)} files); give another folder or "
            "prefix, or delete them"
        )


def shard_name(prefix: str, number: int) -> str:
    """prefix-000000.tar, prefix-000001.tar ..."""
    return f"{prefix}-{number:06d}.tar"


def check_limits(samples_per_shard: int, bytes_per_shard: int) -> None:
    """Raises ValueError for limits below 1."""
    if samples_per_shard < 1 or bytes_per_shard < 1:
        raise ValueError(f"samples_per_shard {samples_per_shard} and bytes_per_shard {bytes_per_shard} must be above 0")


def write_shard(
    samples: Iterator[dict[str, Any]], path: Path, max_samples: int, max_bytes: int
) -> tuple[dict[str, Any], list[Members]]:
    """A tar of the next samples -> its {"name", "samples", "bytes", "sha256"}, and where the files of each sample lie.

    Takes no sample that it does not write. Raises OSError that names the folder where that cannot be written.
    """
    tar, members = _Tar(path), list[Members]()
    try:
        for sample in islice(samples, max_samples):
            members.append(tar.add(sample))
            if tar.size >= max_bytes - 2 * BLOCK:
                break
        sha256, size = tar.finish()
    finally:
        tar.discard()
    return {"name": path.name, "samples": len(members), "bytes": size, "sha256": sha256}, members


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Name the folder in an error of the disk."""
    try:
        yield
    except OSError as error:
        message = f"cannot write to {folder}: {error.strerror}; it needs a disk with room, and the right to write there"
        raise OSError(error.errno, message) from error


class _Tar:
    """A tar under a temporary name. Its owner and its times are always the same."""

    def __init__(self, path: Path):
        self._path, self._temporary = path, path.with_name(f"{path.name}.tmp")
        with writing_to(path.parent):
            self._file = open(self._temporary, "wb")  # noqa: SIM115, closed by discard
        self._sha = hashlib.sha256()
        self._tar = tarfile.open(fileobj=self, mode="w")  # type: ignore[call-overload]  # noqa: SIM115

    @property
    def size(self) -> int:
        return self._tar.offset

    def add(self, sample: dict[str, Any]) -> Members:
        """The files of a sample one after another, and where they are."""
        members: Members = {}
        for extension in _extensions(sample):
            info, data = tarfile.TarInfo(f"{sample['__key__']}.{extension}"), sample[extension]
            info.size, info.mode = len(data), 0o444
            with writing_to(self._path.parent):
                self._tar.addfile(info, io.BytesIO(data))
            members[extension] = self.size - -(-len(data) // BLOCK) * BLOCK, len(data)  # data fills whole blocks
        return members

    def finish(self) -> tuple[str, int]:
        """Give the whole tar its name -> its digest and its size."""
        with writing_to(self._path.parent):
            self._tar.close()
            size = self._file.tell()
            self._file.flush()
            os.fsync(self._file.fileno())
            os.replace(self._temporary, self._path)
        return self._sha.hexdigest(), size

    def discard(self) -> None:
        """Close the file, and remove what has not got its name; again and again if need be."""
        with suppress(OSError):  # what was not written yet may find no room
            self._file.close()
        self._temporary.unlink(missing_ok=True)

    def write(self, data: bytes) -> int:
        """For the tar: every byte goes through the digest."""
        self._sha.update(data)
        return self._file.write(data)

    def tell(self) -> int:
        """For the tar."""
        return self._file.tell()
