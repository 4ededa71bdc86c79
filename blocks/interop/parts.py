"""Weights in several files, with an index beside them that says which leaf is where: Hugging Face's large models."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from blocks.interop.json_text import mapping_in

INDEX = ".index.json"
PART = re.compile(r"-\d+-of-\d+(?=\.)")


def is_index(path: Path) -> bool:
    """Whether a file has an index's name, as model.safetensors.index.json."""
    return path.name.endswith(INDEX)


def index_of(part: Path) -> Path | None:
    """The index beside a file that is one of several, as model-00001-of-00002.safetensors; None for any other."""
    index = part.with_name(PART.sub("", part.name) + INDEX)
    return index if PART.search(part.name) and index.is_file() else None


def read_parts(index: Path, read: Callable[[Path], Any]) -> dict[str, Any]:
    """All leaves by name, each from the file beside the index that has it.

    Raises FileNotFoundError, and ValueError for a damaged index, or one that does not say what its files hold.
    """
    places = _places(index)
    contents = {file: read(index.with_name(file)) for file in sorted(set(places.values()))}
    for name, file in places.items():
        if not isinstance(contents[file], Mapping) or name not in contents[file]:
            raise ValueError(f"{index.with_name(file)} has no {name}, which {index} places there")
    return {name: contents[file][name] for name, file in places.items()}


def _places(index: Path) -> dict[str, str]:
    """{leaf: file}."""
    bad = f"{index} is damaged or no index of weights"
    places = mapping_in(index.read_text(encoding="utf-8", errors="replace"), bad).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ValueError(f'{bad}: it has no "weight_map"')
    for name, file in places.items():
        if not isinstance(file, str) or not file or Path(file).name != file or is_index(Path(file)):
            raise ValueError(f"{index} places {name} in {file!r}, which is no file beside it")
    return places
