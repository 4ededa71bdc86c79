"""From an item to the files of its sample: done in worker processes."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np
from PIL import Image

from blocks.data.decode import UnreadableImage, rgb
from blocks.data.writing.encoding import Encoding, save
from blocks.data.writing.item import Item

IN_PNG = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")  # what it holds without loss


@attrs.frozen(eq=False)
class Prepared:
    """A sample that only lacks its key: the picture was decoded, so that it can be again."""

    name: str
    key: str | None
    label: int | None
    extension: str
    image: bytes
    metadata: bytes  # JSON, empty if there is none


@attrs.frozen(eq=False)
class Prepare:
    """Item, or its number in `items` -> Prepared, or the UnreadableImage that says why not."""

    encoding: Encoding
    items: Sequence[Item] = ()

    def __call__(self, place: Item | int) -> Prepared | UnreadableImage:
        """Raises ValueError for what is not the image's fault."""
        try:
            item = place if isinstance(place, Item) else self.items[place]
            data, extension = self.encoding(*encoded(item), item.name)
        except UnreadableImage as error:
            return error
        return Prepared(item.name, item.key, item.label, extension, data, _json(item))


def encoded(item: Item) -> tuple[bytes, str]:
    """A picture's bytes and its extension, of a path as that says, "" for unknown; pixels become PNG."""
    image = item.image
    if isinstance(image, bytes):
        return image, ""
    if isinstance(image, (str, os.PathLike)):
        return _file(Path(image), item.name)
    if isinstance(image, np.ndarray):
        image = _pixels(image, item.name)
    if not isinstance(image, Image.Image):
        raise ValueError(
            f"{item.name}: a {type(image).__name__} is no picture; give bytes, a path, a PIL image or an array"
        )
    return save(image if image.mode in IN_PNG else _rgb(image, item.name), "png", item.name), "png"


def _rgb(image: Image.Image, name: str) -> Image.Image:
    try:
        made = rgb(image)
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's for damaged files, and ours
        raise UnreadableImage(name, f"{type(error).__name__}: {error}") from None
    made.info = {}  # its profile is of other colours
    return made


def _file(path: Path, name: str) -> tuple[bytes, str]:
    try:
        return path.read_bytes(), path.suffix[1:]
    except OSError as error:
        raise UnreadableImage(name, str(error.strerror)) from None
    except ValueError as error:  # no file can have this name
        raise UnreadableImage(name, str(error)) from None


def _pixels(array: np.ndarray, name: str) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ValueError(f"{name}: array {array.dtype} {list(array.shape)}; give uint8 [H, W], [H, W, 3] or [H, W, 4]")
    if not array.size:
        raise UnreadableImage(name, f"array of {list(array.shape)} has no pixels")
    return Image.fromarray(np.ascontiguousarray(array))


def _json(item: Item) -> bytes:
    if not item.metadata:
        return b""
    try:
        return json.dumps(item.metadata, sort_keys=True, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{item.name}: metadata is not what JSON holds: {error}") from None
