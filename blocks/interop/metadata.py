"""What a saved model should know besides its tensors, its images' size or its classes: plain values as text."""

import json
from collections.abc import Mapping
from typing import Any

ENTRY = "metadata"  # of a safetensors file's texts, and of an ONNX file's


def as_text(metadata: Mapping[str, Any]) -> str:
    """A mapping as JSON; its tuples become lists. Raises ValueError for what JSON cannot hold, or would change."""
    if not isinstance(metadata, Mapping):
        raise ValueError(f"metadata: a {type(metadata).__name__} is no mapping; give {{'img_size': 224, ...}}")
    try:
        _check_keys(metadata)
        return json.dumps(dict(metadata), allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"metadata: {error}; give numbers, texts, None, lists and mappings of them") from None


def _check_keys(value: Any) -> None:
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"key {key!r} of a mapping is a {type(key).__name__}, and JSON's are texts")
    children = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    for child in children:
        _check_keys(child)
