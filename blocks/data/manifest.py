"""index.json beside the shards: samples and bytes of each, the classes, images per class."""

import json
import os
from pathlib import Path
from typing import Any

FILE = "index.json"


def write_manifest(folder: Path, classes: list[str], splits: dict[str, dict[str, Any]]) -> None:
    """Write index.json, whole or not at all.

    A split is {"samples": N, "shards": [{"name", "samples", "bytes"}], "samples_per_class": [n]}.
    """
    text = json.dumps({"version": 1, "classes": classes, "splits": splits}, indent=1)
    temporary = folder / f"{FILE}.tmp"
    temporary.write_text(text + "\n", encoding="utf-8")
    os.replace(temporary, folder / FILE)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The index.json of a folder, None where there is none. Raises ValueError for one of another kind."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        shards = [shard for split in manifest["splits"].values() for shard in split["shards"]]
        if all(isinstance(shard["samples"], int) and isinstance(shard["name"], str) for shard in shards):
            return manifest
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ValueError(f"{path} is not an index of shards; delete it, or write the shards again")


def samples_per_shard(manifest: dict[str, Any]) -> dict[str, int]:
    """The number of samples by shard name, over all splits."""
    return {shard["name"]: shard["samples"] for split in manifest["splits"].values() for shard in split["shards"]}
