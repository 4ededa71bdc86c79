"""The bytes of one file that have arrived so far."""

from collections.abc import Callable
from typing import BinaryIO, Protocol

from blocks.durable import NO_SPACE


class Room(Protocol):
    """Where a part grows: a cache that makes way for it."""

    def reserve(self, file: BinaryIO, size: int, reserved: int) -> int:
        """Make way for a file and grow it from `reserved` to `size` bytes, or more -> its length. Raises CacheFull."""

    def give_way(self, size: int) -> bool:
        """Free that many bytes of a full disk; whether anything was freed."""


class Part:
    """A file that an attempt appends to, or starts again; `size` bytes of it have arrived.

    The file is as long as the room reserved for it, so that other processes see what is taken; `finish` cuts it.
    """

    def __init__(self, file: BinaryIO, room: Room | None = None, report: Callable[[int], object] | None = None):
        self.file, self.size = file, 0
        self._room, self._report, self._reserved = room, report or (lambda _: None), 0

    def expect(self, size: int | None) -> None:
        """Reserve the room of the whole file, where its size is known."""
        if size is not None:
            self._reserve(size)

    def write(self, data: bytes) -> None:
        self._reserve(self.size + len(data))
        view = memoryview(data)
        while view:
            written = self._write(view)
            self.size += written
            self._report(written)
            view = view[written:]

    def restart(self) -> None:
        """Forget what has arrived."""
        self._report(-self.size)
        self.file.seek(0)
        self.size = 0

    def finish(self) -> None:
        self.file.truncate(self.size)

    def _reserve(self, size: int) -> None:
        if self._room is not None and size > self._reserved:
            self._reserved = self._room.reserve(self.file, size, self._reserved)

    def _write(self, data: memoryview) -> int:
        while True:
            try:
                return self.file.write(data)
            except OSError as error:
                if error.errno not in NO_SPACE or self._room is None or not self._room.give_way(len(data)):
                    raise
