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
