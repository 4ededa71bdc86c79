"""Indices beside shards, as vitmason and timm write them."""

import hashlib
import json
from pathlib import Path

import numpy as np

from blocks.data.index.scan import read_table
from blocks.data.storage.shard import Shard


def write_index(folder: Path, classes: list[str] | None = None, **changes) -> dict:
    """index.json, version 2, and train-samples.npy for all shards of a folder; `changes` replace parts of the split."""
    paths = sorted(folder.glob("*.tar"))
    tables = [read_table(Shard(str(path))) for path in paths]
    entries = [
        {
            "name": path.name,
            "samples": table.shape[1],
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path, table in zip(paths, tables, strict=True)
    ]
    table = np.concatenate(tables, axis=1)
    np.save(folder / "train-samples.npy", table)
    split = {"samples": table.shape[1], "table": "train-samples.npy", "shards": entries, **changes}
    index = {"version": 2, "classes": classes, "splits": {"train": split}}
    (folder / "index.json").write_text(json.dumps(index))
    return index


def write_timms(folder: Path) -> None:
    """_info.json for all shards of a folder."""
    paths = sorted(folder.glob("*.tar"))
    counts = [read_table(Shard(str(path))).shape[1] for path in paths]
    split = {"name": "train", "filenames": [p.name for p in paths], "shard_lengths": counts, "num_samples": sum(counts)}
    (folder / "_info.json").write_text(json.dumps({"splits": {"train": split}}))
