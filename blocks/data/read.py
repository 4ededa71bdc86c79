"""Samples by number: a process keeps the shards it reads open."""

import os
from collections import OrderedDict

import numpy as np
from PIL import Image

from blocks.data.decode import Encoded
from blocks.data.index import Index

MAX_OPEN = 256  # files a process, a quarter of the usual limit


class Reader:
    """Bytes and pictures of an index's samples. May be copied to other processes; each opens its own files."""

    def __init__(self, index: Index):
        self.index = index
        self._open: OrderedDict[int, int] = OrderedDict()  # shard -> file descriptor, the newest last

    def read(self, sample: int) -> bytes:
        """The image's bytes as stored. Raises OSError when the shard no longer holds them."""
        index, size = self.index, int(self.index.size[sample])
        shard = int(index.shard[sample])
        data = os.pread(self._file(shard), size, int(index.offset[sample]))
        if len(data) != size:
            raise OSError(f"{index.shards[shard].name} became shorter while it was read; start again when it is whole")
        return data

    def picture(self, sample: int) -> Encoded:
        """The picture, not yet decoded."""
        return Encoded(self.read(sample), lambda: self.index.name(sample))

    def image(self, sample: int) -> Image.Image:
        """The picture in RGB. Raises UnreadableImage."""
        return self.picture(sample).rgb()

    def ahead(self, samples: np.ndarray) -> None:
        """These samples [n] come next."""

    def _file(self, shard: int) -> int:
        if shard not in self._open:
            if len(self._open) == MAX_OPEN:
                os.close(self._open.popitem(last=False)[1])
            self._open[shard] = os.open(self.index.shards[shard].local(), os.O_RDONLY)
        self._open.move_to_end(shard)
        return self._open[shard]

    def close(self) -> None:
        """Close all files; the next read opens them again."""
        while self._open:
            os.close(self._open.popitem()[1])

    def __getstate__(self) -> Index:
        return self.index

    def __setstate__(self, index: Index) -> None:
        self.index, self._open = index, OrderedDict()

    def __del__(self):
        self.close()
