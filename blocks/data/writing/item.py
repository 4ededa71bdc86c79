"""One sample between a source and the shards."""

import operator
import os
import re
import reprlib
import unicodedata
from typing import Any

import attrs
import numpy as np
from PIL import Image

from blocks.data.index.scan import MAX_CLASSES

Picture = bytes | str | os.PathLike | Image.Image | np.ndarray
KEY_LENGTH = 90  # letters; with its extension it fits a tar's header, where they are ASCII


@attrs.frozen(eq=False)
class Item:
    """A picture (encoded bytes, a path, a PIL image, or uint8 [H, W], [H, W, 3] or [H, W, 4]) and its class number.

    Without a key it gets one, of its number and its name. The label may be None where a source has no labels. Metadata
    is what JSON can hold. Raises ValueError for a key that shards cannot hold and a label that is no class number.
    """

    key: str | None
    image: Picture
    label: int | None = None
    metadata: dict[str, Any] = attrs.field(factory=dict, converter=lambda given: given or {})
    name: str = attrs.Factory(lambda self: self.key or "", takes_self=True)  # what messages call it

    def __attrs_post_init__(self) -> None:
        if self.key is not None:
            check_key(self.key)
        if self.label is not None:
            object.__setattr__(self, "label", class_number(self.label, self.name))


def class_number(label: Any, name: str) -> int:
    """The label as an int. Raises ValueError unless it is one from 0 to MAX_CLASSES - 1."""
    try:
        number = -1 if isinstance(label, bool | np.bool_) else operator.index(label)
    except TypeError:
        number = -1
    if not 0 <= number < MAX_CLASSES:
        raise ValueError(
            f"{name}: label {reprlib.repr(label)} is no class number; give 0, 1, 2 ... to {MAX_CLASSES - 1} at most"
        )
    return number


def safe(text: str) -> str:
    """The text with an underscore for all that a key cannot hold: a dot ends it, the rest is for other tools' sake.

    Letters of all languages stay; a Mac writes their accents as characters of their own.
    """
    return re.sub(r"[^\w-]", "_", unicodedata.normalize("NFC", text))


def check_key(key: Any) -> None:
    """Raises ValueError for one that shards cannot hold, with one that they can."""
    if not isinstance(key, str) or not re.fullmatch(r"[\w-]+(/[\w-]+)*", key) or len(key) > KEY_LENGTH:
        better = safe(str(key))[:KEY_LENGTH] or "0001"
        raise ValueError(
            f"key {key!r} does not fit a shard; take letters, digits, _, - and / between them, at most {KEY_LENGTH}: "
            f"{better!r} would do"
        )
