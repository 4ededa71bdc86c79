"""JSON files of a run's folder, for people too: indented, and never half written, also after a power cut."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blocks.durable import replace


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write beside the target, then rename. What JSON does not know is written as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    replace(temporary, path)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file, {} if there is none. Raises ValueError for what is no JSON object."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}; mend or remove it") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, no JSON object; mend or remove it")
    return content
