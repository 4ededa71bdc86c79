"""Pictures kept decoded: made once, in files that all processes of a machine share."""

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import numpy as np
from torch import Tensor

from blocks.data.bars import progress_bar
from blocks.data.decode import Picture, UnreadableImage, rgb
from blocks.data.index.index import Index
from blocks.data.index.read import Reader
from blocks.data.loading.kept_room import Decoded, Used, disk_room, sets_folder
from blocks.data.loading.made import Checked
from blocks.data.pool import process_map
from blocks.data.storage.cache import digest, once

FORMAT = "1"
CHUNK = 64  # pictures that a process decodes at a time
PLACE = " at 0x"  # in memory: what Python says of a function
# pictures to one size; its repr says all that its result follows from
Cut = Callable[[Sequence[Picture], Tensor | None], Tensor]


@attrs.frozen(eq=False)
class KeptPictures:
    """The pictures of an index: pixels uint8 [N, H, W, 3], and which of them could be decoded, bool [N].

    Copied to another process, they are read from the disk there.
    """

    folder: Path
    pixels: np.ndarray = attrs.field(repr=False)
    readable: np.ndarray = attrs.field(repr=False)
    used: Used | None = attrs.field(default=None, repr=False)  # while pixels are on the disk

    def __reduce__(self) -> tuple:
        return open_kept, (self.folder, False)


def open_kept(folder: Path, in_memory: bool) -> KeptPictures:
    """What `keep` wrote: read as it is needed, or at once. Raises FileNotFoundError where it made way for others."""
    used = Used(folder)
    pixels = np.load(folder / "pixels.npy", mmap_mode=None if in_memory else "r", allow_pickle=False)
    readable = np.load(folder / "readable.npy", allow_pickle=False)
    return KeptPictures(folder, pixels, readable, None if in_memory else used)


def keep(index: Index, cut: Cut | None = None, workers: int = 0) -> Path:
    """A folder in the cache with the index's pictures, as `cut` makes them or as they are; decoded at first use.

    The processes of a machine wait for the first of them. Raises ValueError for pictures of different sizes where
    nothing cuts them, or too many of them for the limit, OSError where the disk has no room.
    """
    return once(kept_folder(index, cut), functools.partial(_decode_all, index, cut, workers))


def kept_folder(index: Index, cut: Cut | None) -> Path:
    """Where `keep` keeps them."""
    if cut is not None and (not attrs.has(type(cut)) or PLACE in repr(cut)):
        raise ValueError(f"{cut!r} does not say what it makes of a picture; decoded takes attrs classes, as ours are")
    shards = [shard.identity() for shard in index.shards]
    places = digest(*(column.tobytes().hex() for column in (index.shard, index.offset, index.size)))
    return sets_folder() / digest(FORMAT, repr(cut), places, *shards)


def decoded_size(index: Index, cut: Cut | None) -> Decoded:
    """What they take: by those that are kept, else by the first that is readable."""
    with contextlib.suppress(FileNotFoundError):
        return Decoded(len(index), open_kept(kept_folder(index, cut), in_memory=False).pixels.shape[1:])
    return Decoded(len(index), _shape(index, cut))


def _decode_all(index: Index, cut: Cut | None, workers: int, folder: Path) -> None:
    size = decoded_size(index, cut)
    with disk_room(size):
        pixels = _file(folder, size)
    chunks = [range(start, min(start + CHUNK, len(index))) for start in range(0, len(index), CHUNK)]
    decode_some = functools.partial(_decode_some, Reader(index), cut, pixels)
    with progress_bar() as bar:
        results = bar.track(process_map(decode_some, chunks, workers), len(chunks), description="decoding")
        readable = np.concatenate(list(results))
    pixels.flush()
    np.save(folder / "readable.npy", readable)


def _file(folder: Path, size: Decoded) -> np.memmap:
    folder.mkdir()
    path = folder / "pixels.npy"
    pixels = np.lib.format.open_memmap(path, "w+", np.uint8, (size.count, *size.shape))
    with open(path, "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))  # or a full disk would end the process
    return pixels


def _decode_some(reader: Reader, cut: Cut | None, pixels: np.ndarray, samples: range) -> np.ndarray:
    """Fill some rows (of a file that the processes share): which of them could be decoded, bool [n]."""
    readable = np.zeros(len(samples), bool)
    for row, sample in enumerate(samples):
        try:
            made = _made(reader.encoded(sample), cut)
        except UnreadableImage:
            continue
        if made.shape != pixels.shape[1:]:
            (h, w, _), (height, width, _) = made.shape, pixels.shape[1:]
            raise ValueError(
                f"{reader.index.name(sample)} has {w} x {h} pixels, others {width} x {height}; pictures kept decoded "
                "have one size: give the transform home='device', which cuts canvases of one"
            )
        pixels[sample], readable[row] = made, True
    return readable


def _made(picture: Picture, cut: Cut | None) -> np.ndarray:
    return np.asarray(rgb(picture)) if cut is None else Checked(cut)([picture])["images"][0].numpy()


def _shape(index: Index, cut: Cut | None) -> tuple[int, ...]:
    reader = Reader(index)
    for sample in range(len(index)):
        try:
            return _made(reader.encoded(sample), cut).shape
        except UnreadableImage:
            continue
    raise ValueError(f"none of {len(index)} samples can be decoded; are these shards of images?")
