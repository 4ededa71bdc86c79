"""Places of a batch and the pictures that fill them, whatever turns out to be unreadable."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from blocks.data.decode import UnreadableImage
from blocks.data.views import Pictures, named

Transform = Callable[[Sequence[Any], Any], Tensor | Pictures]  # of what a PictureReader gives, and keys or None
MAX_IN_A_ROW = 10  # unreadable ones: then it is not the images that are damaged
CHUNK_IMAGES, CHUNK_PIXELS = 64, 1 << 25  # pictures held at a time: one draw of keys for many, 100 MB at most


class PictureReader(Protocol):
    """Where pictures come from, sample by sample."""

    def picture(self, sample: int) -> Any:
        """What the transform takes: of some `size`, and perhaps unreadable."""

    def ahead(self, samples: np.ndarray) -> None:
        """These come next."""


@attrs.define(eq=False)
class Slot:
    """A place that waits for its picture; `tries` samples of it were unreadable so far."""

    place: int
    sample: int = -1
    picture: Any = None
    tries: int = 0


Chunk = list[tuple[int, Slot]]  # with their rows in the batch


@attrs.define(eq=False)
class Filling:
    """Pictures for slots. Slot by slot, each gets the first readable sample of `candidate(place, tries)`.

    Where `candidate` gives None the slot is left out. Pictures go to the transform as they are stored; what only the
    transform finds unreadable is replaced too, and its chunk made again: each row is a function of its own picture and
    key, so no other row changes.
    """

    reader: PictureReader
    transform: Transform
    candidate: Callable[[int, int], int | None]
    skipped: dict[str, str] = attrs.field(init=False, factory=dict)

    def __call__(self, slots: Iterable[Slot], keys: Tensor | None) -> tuple[Pictures, list[int]]:
        """What the transform makes of the slots, with keys [b, 2], and the samples of its rows."""
        parts, samples = [], []
        for chunk in self._chunks(slots):
            made, chunk = self._made(chunk, keys)
            if chunk:
                parts.append(made)
                samples += [slot.sample for _, slot in chunk]
        return joined(parts), samples

    def _chunks(self, slots: Iterable[Slot]) -> Iterator[Chunk]:
        """Filled slots in lists of bounded size."""
        chunk: Chunk = []
        pixels = 0
        for row, slot in enumerate(slots):
            if slot.picture is None and not self._fill(slot):
                continue
            chunk.append((row, slot))
            width, height = slot.picture.size
            pixels += width * height
            if len(chunk) == CHUNK_IMAGES or pixels >= CHUNK_PIXELS:
                yield chunk
                chunk, pixels = [], 0
        if chunk:
            yield chunk

    def _made(self, chunk: Chunk, keys: Tensor | None) -> tuple[Pictures, Chunk]:
        """The pictures of a chunk, and what is left of it."""
        while chunk:
            own = None if keys is None else keys[[row for row, _ in chunk]]
            try:
                return named(self.transform([slot.picture for _, slot in chunk], own)), chunk
            except UnreadableImage as error:
                failed = dict.fromkeys(slot for _, slot in chunk if slot.picture is error.picture)
                if not failed:  # not one of ours: there is nothing to replace
                    raise
                for slot in failed:
                    self._fail(slot, error)
                    self._fill(slot)
                chunk = [(row, slot) for row, slot in chunk if slot.picture is not None]
        return {}, []

    def _fill(self, slot: Slot) -> bool:
        """Give the slot the next readable picture; whether there is one."""
        while (sample := self.candidate(slot.place, slot.tries)) is not None:
            slot.sample = sample
            try:
                slot.picture = self._picture(sample)
                return True
            except UnreadableImage as error:
                self._fail(slot, error)
        return False

    def _picture(self, sample: int) -> Any:
        picture = self.reader.picture(sample)
        picture.size  # noqa: B018 - the header is read: here a damaged one is still alone
        return picture

    def _fail(self, slot: Slot, error: UnreadableImage) -> None:
        """Raises ValueError where it is not the images that are damaged."""
        self.skipped[error.name] = error.reason
        slot.picture, slot.tries = None, slot.tries + 1
        if slot.tries == MAX_IN_A_ROW:
            latest = list(self.skipped.items())[-MAX_IN_A_ROW:]
            listed = "\n".join(f"  {name}: {reason}" for name, reason in latest)
            raise ValueError(f"{MAX_IN_A_ROW} samples in a row are unreadable; are these shards of images?\n{listed}")


def joined(parts: list[Pictures]) -> Pictures:
    """The parts of a batch as one; a single one as it is."""
    for one, other in itertools.pairwise(parts):
        _check_alike(one, other)
    return {name: _cat([part[name] for part in parts]) for name in parts[0]} if len(parts) > 1 else dict(*parts)


def _check_alike(one: Pictures, other: Pictures) -> None:
    shapes, others = ({name: list(x.shape[1:]) for name, x in part.items()} for part in (one, other))
    if shapes != others:
        told = (", ".join(f"{name} {shape}" for name, shape in part.items()) for part in (shapes, others))
        raise ValueError(f"the transform gives {' and '.join(told)} in one batch; pictures of a batch have one size")


def _cat(parts: list[Tensor]) -> Tensor:
    """One part after another; in a worker where the main process sees it, or it would be copied on its way there."""
    if get_worker_info() is None:
        return torch.cat(parts)
    whole = torch.empty(sum(map(len, parts)), *parts[0].shape[1:], dtype=parts[0].dtype)
    return torch.cat(parts, out=whole.share_memory_())
