"""Every sample looked at once, in worker processes, and what they are counted."""

import functools
import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator

import attrs
import numpy as np
from PIL import Image, UnidentifiedImageError

from blocks.data.decode import UnreadableImage, decode
from blocks.data.decode.pillow import opened
from blocks.data.index.index import Index
from blocks.data.index.read import Reader
from blocks.data.pool import process_map
from blocks.data.storage import CacheFull, FetchError

CHUNK = 64  # samples a worker takes at a time
DIGEST_BYTES = 16
DARK = 16  # of 255: below it is what few bits of many leave, as 12 of 16 do
Advance = Callable[[], object]


@attrs.frozen
class Look:
    """What a sample's bytes turn out to be; `reason` says why they are no picture, "" that they are one."""

    digest: bytes = b""
    format: str = ""
    mode: str = ""
    size: tuple[int, int] = (0, 0)  # width, height
    blank: bool = False
    reason: str = ""


@attrs.frozen
class Census:
    """The readable pictures by format, mode and (width, height), and how many are seen to be blank; all digests in
    stored order; reasons by sample.
    """

    formats: Counter[str] = attrs.field(factory=Counter)
    modes: Counter[str] = attrs.field(factory=Counter)
    sizes: Counter[tuple[int, int]] = attrs.field(factory=Counter)
    blank: Counter[bool] = attrs.field(factory=Counter)
    digests: list[bytes] = attrs.field(factory=list)
    damaged: dict[int, str] = attrs.field(factory=dict)


def take_census(index: Index, workers: int = 0, quick: bool = False, advance: Advance = lambda: None) -> Census:
    """All samples of an index, decoded, or with `quick` by their headers alone; `advance` is called after each.

    Raises FetchError or CacheFull for a shard that cannot be fetched.
    """
    census = Census()
    for sample, look in enumerate(_looks(index, workers, quick)):
        census.digests.append(look.digest)
        if look.reason:
            census.damaged[sample] = look.reason
        else:
            census.formats[look.format] += 1
            census.modes[look.mode] += 1
            census.sizes[look.size] += 1
            census.blank[look.blank] += 1
        advance()
    return census


def look_at(data: bytes, quick: bool = False) -> Look:
    """A picture's facts from its header; without `quick` all its pixels are decoded too."""
    digest = hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()
    with warnings.catch_warnings(action="ignore"):  # of formats' oddities
        try:
            return Look(digest, *_header(data), blank=not quick and _is_blank(decode(data, "")))
        except UnreadableImage as error:
            return Look(digest, reason=error.reason)


def _is_blank(picture: Image.Image) -> bool:
    """Whether it is nearly black, or of one colour."""
    low, high = np.reshape(picture.getextrema(), (-1, 2)).T  # of each colour
    return bool(high.max() < DARK or (low == high).all())


def _header(data: bytes) -> tuple[str, str, tuple[int, int]]:
    """(format, mode, (width, height)). Raises UnreadableImage."""
    try:
        with opened(data) as image:
            return image.format or "", image.mode, image.size
    except MemoryError:
        raise
    except UnidentifiedImageError:
        reason = "no picture that Pillow knows" if data else "no bytes"
    except Exception as error:  # Pillow's plugins raise some ten types on damaged bytes
        reason = f"{type(error).__name__}: {error}"
    raise UnreadableImage("", reason)


def _looks(index: Index, workers: int, quick: bool) -> Iterator[Look]:
    parts = (_part(index, slice(start, start + CHUNK)) for start in range(0, len(index), CHUNK))
    for looks in process_map(functools.partial(_look_at_all, quick=quick), parts, workers):
        yield from looks


def _part(index: Index, samples: slice) -> Index:
    """A few samples of an index with their own shards alone: what travels to a worker."""
    numbers, shard = np.unique(index.shard[samples], return_inverse=True)
    columns = {name: getattr(index, name)[samples] for name in ("offset", "size", "label")}
    return Index(tuple(index.shards[number] for number in numbers), shard, **columns)


def _look_at_all(part: Index, quick: bool) -> list[Look]:
    reader = Reader(part)
    try:
        return [_look(reader, sample, quick) for sample in range(len(part))]
    finally:
        reader.close()


def _look(reader: Reader, sample: int, quick: bool) -> Look:
    try:
        data = reader.read(sample)
    except (FetchError, CacheFull):  # no fault of the sample, and the next one would wait for it as long again
        raise
    except OSError as error:
        return Look(reason=str(error))
    return look_at(data, quick)
