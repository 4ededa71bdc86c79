"""Tiny pictures and shards for the tests of data."""

import gzip
import io
import json
import shutil
import tarfile
from pathlib import Path

import attrs
import numpy as np
from PIL import Image

from blocks.data.decode import Encoded
from blocks.data.storage import ShardCache
from blocks.data.writing.writer import write_shards


def picture(seed: int, height: int = 9, width: int = 11, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, format: str = "png", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def samples(count: int, num_classes: int = 3, damaged: tuple[int, ...] = ()):
    for i in range(count):
        data = encoded(picture(i, 5 + i % 7, 5 + i % 5))
        data = data[: len(data) // 2] if i in damaged else data
        yield {"__key__": f"{i:04d}", "png": data, "cls": str(i % num_classes).encode()}


def shards(folder: Path, count: int, per_shard: int, **options) -> list[str]:
    written = write_shards(samples(count, **options), folder, "train", samples_per_shard=per_shard)
    return [str(folder / shard["name"]) for shard in written]


def tar(path: Path, files: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as out:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return path


def decodings(monkeypatch) -> list[str]:
    """The names of pictures, as they are decoded from now on, whole or in part."""
    names: list[str] = []
    for way in ("rgb", "_decoded"):
        monkeypatch.setattr(Encoded, way, _noting(getattr(Encoded, way), names))
    return names


def _noting(way, names):
    return lambda self, *box: names.append(self.name()) or way(self, *box)


def read_manifest(folder):
    """The index.json of a folder, as any reader of JSON would see it."""
    return json.loads((folder / "index.json").read_text(encoding="utf-8"))


def gzipped(path):
    with open(path, "rb") as source, gzip.open(f"{path}.gz", "wb") as target:
        shutil.copyfileobj(source, target)
    return f"{path}.gz"


def with_cache(index, folder, share):
    """The index with a cache that takes this share of all shards' bytes."""
    ends = np.zeros(len(index.shards), np.int64)
    np.maximum.at(ends, index.shard, index.offset + index.size)
    cache = ShardCache(folder, int(share * ends.sum()))
    return attrs.evolve(index, shards=tuple(attrs.evolve(shard, cache=cache) for shard in index.shards))
