"""The index beside the shards: index.json, where each sample lies, and timm's _info.json.

index.json says {"version": 2, "classes": [...], "splits": {SPLIT: {"samples", "samples_per_class", "table", "shards":
[{"name", "samples", "bytes", "sha256"}]}}}. The table, SPLIT-samples.npy, is int64 [3, N]: offset of the image in its
tar, size and label (NO_LABEL, the smallest int64, of pictures without labels), in stored order, shard after shard.
"""

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from blocks.data.index.scan import NO_LABEL
from blocks.data.writing.writer import writing_to

FILE, TIMM_FILE = "index.json", "_info.json"
VERSION = 2


def write_manifest(
    folder: Path, classes: list[str], splits: dict[str, list[dict[str, Any]]], tables: dict[str, np.ndarray]
) -> None:
    """Write the index of {SPLIT: [{"name", "samples", "bytes", "sha256"}]} with a table each; index.json last."""
    entries, infos = {}, {}
    for split, shards in splits.items():
        table = tables[split]
        file = io.BytesIO()
        np.save(file, np.ascontiguousarray(table, dtype=np.int64))
        _replace(folder / f"{split}-samples.npy", file.getvalue())
        entries[split] = {
            "samples": table.shape[1],
            "samples_per_class": samples_per_class(table, len(classes)),
            "table": f"{split}-samples.npy",
            "shards": shards,
        }
        infos[split] = {
            "name": split,
            "filenames": [shard["name"] for shard in shards],
            "shard_lengths": [shard["samples"] for shard in shards],
            "num_samples": table.shape[1],
        }
    _replace(folder / TIMM_FILE, _json({"splits": infos}))
    _replace(folder / FILE, _json({"version": VERSION, "classes": classes, "splits": entries}))


def samples_per_class(table: np.ndarray, num_classes: int) -> list[int]:
    """How many samples of a table, int64 [3, N], each class has; [] of pictures without labels."""
    labels = table[2][table[2] != NO_LABEL]
    return np.bincount(labels, minlength=num_classes).tolist()


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


def _replace(path: Path, data: bytes) -> None:
    """The file whole or not at all."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with writing_to(path.parent):
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
