"""Samples to webdataset shards. A shard gets its name when it is whole; equal samples give equal bytes."""

import os
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from webdataset import TarWriter

BLOCK = 512  # of a tar


def write_shards(
    samples: Iterable[dict[str, Any]],
    folder: str | os.PathLike,
    prefix: str,
    samples_per_shard: int = 10_000,
    bytes_per_shard: int = 1_000_000_000,
) -> list[dict[str, Any]]:
    """Write folder/prefix-000000.tar ... and give [{"name", "samples", "bytes"}] of them.

    A sample is a webdataset dict: {"__key__": "0001", "jpg": bytes, "cls": b"3"}. A shard ends at either limit.
    If anything fails, the shards written by this call are removed.
    """
    if samples_per_shard < 1 or bytes_per_shard < 1:
        raise ValueError(f"samples_per_shard {samples_per_shard} and bytes_per_shard {bytes_per_shard} must be above 0")
    folder, samples = Path(folder), iter(samples)
    shards: list[dict[str, Any]] = []
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for first in samples:
            name = f"{prefix}-{len(shards):06d}.tar"
            count = _write_shard(chain([first], samples), folder / name, samples_per_shard, bytes_per_shard)
            shards.append({"name": name, "samples": count, "bytes": os.path.getsize(folder / name)})
    except BaseException:
        for shard in shards:
            (folder / shard["name"]).unlink(missing_ok=True)
        raise
    return shards


def _write_shard(samples: Iterator[dict[str, Any]], path: Path, max_samples: int, max_bytes: int) -> int:
    temporary = path.with_name(f"{path.name}.tmp")
    count = 0
    try:
        with open(temporary, "wb") as file:
            with TarWriter(file, encoder=False, mtime=0) as tar:  # its owner is fixed; the time must be as well
                for sample in islice(samples, max_samples):
                    tar.write(sample)
                    count += 1
                    if file.tell() >= max_bytes - 2 * BLOCK:
                        break
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return count
