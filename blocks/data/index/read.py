"""Samples by number: a process keeps the shards it reads open."""

import os
from collections import OrderedDict

import numpy as np
from PIL import Image

from blocks.data.decode import Encoded, UnreadableImage
from blocks.data.index.index import Index
from blocks.data.storage.ahead import Ahead
from blocks.data.storage.shard import CachedShard, Shard

MAX_OPEN = 256  # files a process, a quarter of the usual limit
BEGINNING = 4096  # bytes: who asks for a shard's first image before any other will read it in order, as evaluation does
MAX_EVICTED = 4  # of them, those that the cache has removed: their bytes are on the disk while they are open


class Reader:
    """Bytes and pictures of an index's samples. May be copied to other processes; each opens its own files."""

    def __init__(self, index: Index):
        self.index = index
        self._open: OrderedDict[int, int] = OrderedDict()  # shard -> file descriptor, the newest last
        self._cached = any(isinstance(shard, CachedShard) for shard in index.shards)
        self._ahead = _ahead(index.shards)

    def ahead(self, samples: np.ndarray) -> None:
        """These come next: their shards are fetched in the background. Does nothing where all are plain tars here.

        What cannot be fetched is raised by the `read` that needs it.
        """
        if self._cached:
            shards, first = np.unique(self.index.shard[samples], return_index=True)
            numbers = shards[np.argsort(first)].tolist()
            self._fetching().want(number for number in numbers if number not in self._open)

    def read(self, sample: int) -> bytes:
        """The image's bytes as stored. Raises OSError when the shard is another by now, or cannot be fetched."""
        index, size = self.index, int(self.index.size[sample])
        shard, offset = int(index.shard[sample]), int(index.offset[sample])
        file = self._file(shard, offset)
        data = os.pread(file, size, offset)
        if len(data) != size:
            raise OSError(f"{index.shards[shard].name} became shorter while it was read; start again when it is whole")
        index.shards[shard].check(file)
        return data

    def encoded(self, sample: int) -> Encoded:
        """The picture, not yet decoded, whether it has a label or not."""
        return Encoded(self.read(sample), lambda: self.index.name(sample))

    def picture(self, sample: int) -> Encoded:
        """The picture, not yet decoded. Raises UnreadableImage for one that lacks its label, or is not there."""
        encoded = self.encoded(sample)  # first: where its shard is here it has its name
        if self.index.is_incomplete(sample):
            raise UnreadableImage(self.index.name(sample), self.index.why_incomplete(sample), encoded)
        return encoded

    def image(self, sample: int) -> Image.Image:
        """The picture in RGB. Raises UnreadableImage."""
        return self.picture(sample).rgb()

    def _file(self, shard: int, offset: int) -> int:
        if shard not in self._open:
            self._make_room()
            self._open[shard] = self._opened(shard)
            if offset < BEGINNING:
                os.posix_fadvise(self._open[shard], 0, 0, os.POSIX_FADV_SEQUENTIAL)
        self._open.move_to_end(shard)
        return self._open[shard]

    def _opened(self, shard: int) -> int:
        if self._cached:
            self._fetching().wait_for(shard)
        return self.index.shards[shard].open()

    def _make_room(self) -> None:
        if len(self._open) == MAX_OPEN:
            os.close(self._open.popitem(last=False)[1])
        if self._cached:
            evicted = [shard for shard, file in self._open.items() if os.fstat(file).st_nlink == 0]
            for shard in evicted[:-MAX_EVICTED]:
                os.close(self._open.pop(shard))

    def _fetching(self) -> Ahead:
        if self._ahead.process != os.getpid():  # forked: the threads are the parent's
            self._ahead = _ahead(self.index.shards)
        return self._ahead

    def close(self) -> None:
        """Close all files and begin no fetch; the next read opens them again."""
        self._ahead.close()
        while self._open:
            os.close(self._open.popitem()[1])

    def __getstate__(self) -> Index:
        return self.index

    def __setstate__(self, index: Index) -> None:
        self.__init__(index)  # type: ignore[misc]

    def __del__(self):
        self.close()


def _ahead(shards: tuple[Shard, ...]) -> Ahead:
    """Without the reader, which goes while threads still fetch."""
    return Ahead(lambda number: shards[number].local())
