"""What a run is made of, by value: so that an edit of a recipe's code does not go unnoticed when the run goes on."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

PLAIN = (bool, int, float, str, type(None))
CODE = "the recipe's code"


def made_of(**parts: Any) -> dict[str, Any]:
    """{"objective": "Supervised", "objective.label_smoothing": 0.1, ...}: plain values and classes by dotted names.

    Of attrs classes there are the fields that they are given, of tuples and dictionaries their length and what they
    hold; of anything else, a module or a tensor, the class alone.
    """
    found: dict[str, Any] = {}
    for name, part in parts.items():
        _note(found, name, part)
    return found


def code_of(file: Path | None) -> dict[str, str]:
    """{CODE: the first digits of its file's SHA-256}; {} for no file."""
    if file is None or not file.is_file():
        return {}
    return {CODE: hashlib.sha256(file.read_bytes()).hexdigest()[:12]}


def _note(found: dict[str, Any], name: str, part: Any) -> None:
    if isinstance(part, PLAIN):
        found[name] = part
    elif isinstance(part, Mapping | tuple | list):
        found[name] = len(part)
        for key, value in part.items() if isinstance(part, Mapping) else enumerate(part):
            _note(found, f"{name}.{key}", value)
    else:
        found[name] = getattr(part, "__qualname__", type(part).__qualname__)
        fields = attrs.fields(type(part)) if attrs.has(type(part)) else ()
        for field in fields:
            if field.init and not field.name.startswith("_"):
                _note(found, f"{name}.{field.name}", getattr(part, field.name))
