"""A mapping in a text that stands in somebody's file."""

import json
from typing import Any


def mapping_in(text: str, said: str) -> dict[str, Any]:
    """What JSON in the text holds. Raises ValueError that begins with `said` for a text that holds no mapping."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{said}: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{said}: it holds a {type(found).__name__}")
    return found
