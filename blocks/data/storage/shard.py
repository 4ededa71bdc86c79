"""One shard of a data set: what the user calls it, and the plain tar that is read in its place."""

import contextlib
import gzip
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import attrs

from blocks.data.storage.cache import digest, fingerprint
from blocks.data.storage.fetch import fetch
from blocks.data.storage.retries import Retries
from blocks.data.storage.shard_cache import ShardCache
from blocks.data.storage.source import Version
from blocks.secrets import hiding_secrets, shown, without_password

GZIP = b"\x1f\x8b"
WAY_OUT = "fetch or write it again, or leave it out of the shards"
CHANGED = "{} changed since it was opened; open the shards again"
EVICTED = 5  # times that a shard may go between its fetch and its opening


@attrs.frozen
class Shard:
    """A webdataset tar by its name; this one is a plain tar on this machine, `written` as it was when it was found.

    `sha256` is what an index says of its bytes.
    """

    name: str
    sha256: str | None = attrs.field(default=None, kw_only=True, repr=False)
    written: tuple[int, int] | None = attrs.field(default=None, kw_only=True, repr=False)  # bytes, and ns of its time

    def identity(self) -> str:
        """A short name that changes with the content, as far as that is known without a look into it."""
        return fingerprint(self.name)

    def here(self) -> str | None:
        """The path of the plain tar, None while it would have to be fetched or unpacked."""
        return self.name

    def local(self) -> str:
        """The path of the plain tar, fetched or unpacked first if it must be; from any thread and process."""
        return self.name

    def open(self) -> int:
        """A descriptor of the plain tar."""
        return os.open(self.local(), os.O_RDONLY)

    def check(self, file: int) -> None:
        """Raises OSError where a descriptor's file is another one by now: the index would say what it holds no more."""
        if self.written is not None and self.written != written(os.fstat(file)):
            raise OSError(CHANGED.format(self.name))


@attrs.frozen
class CachedShard(Shard):
    """A shard whose plain tar lies in a cache."""

    cache: ShardCache

    def in_cache(self) -> Path:
        """Where it lies, or would: the name changes with its content, as far as that is known."""
        raise NotImplementedError

    def identity(self) -> str:
        return self.in_cache().stem

    def here(self) -> str | None:
        path = self.in_cache()
        return str(path) if path.exists() else None

    def local(self) -> str:
        return self.fetch()

    def fetch(self, report: Callable[[int], object] | None = None) -> str:
        """As `local`; `report` is told the bytes as they arrive."""
        return str(self.cache.file(self.in_cache(), lambda target: self.make(target, report)))

    def open(self) -> int:
        for _ in range(EVICTED):
            path = self.local()
            with contextlib.suppress(FileNotFoundError):
                return os.open(path, os.O_RDONLY)
        raise OSError(f"{self.name} left the cache {EVICTED} times before it could be opened; give the cache more room")

    def discard(self) -> None:
        """Out of the cache: what came is damaged."""
        self.in_cache().unlink(missing_ok=True)

    def make(self, target: Path, report: Callable[[int], object] | None) -> None:
        """Write the plain tar."""
        raise NotImplementedError


@attrs.frozen
class PackedShard(CachedShard):
    """A .tar.gz on this machine, by its fingerprint."""

    stamp: str

    def in_cache(self) -> Path:
        return self.cache.folder / f"{self.stamp}.tar"

    def make(self, target: Path, report: Callable[[int], object] | None) -> None:
        if fingerprint(self.name) != self.stamp:
            raise OSError(CHANGED.format(self.name))
        _gunzip(self, self.name, target)


@attrs.frozen
class RemoteShard(CachedShard):
    """A .tar or .tar.gz behind a URL or a pipe; what is expected of it is checked when it has come.

    Where `url` holds what is secret, `name` is what may be seen of it.
    """

    retries: Retries
    expected: Version
    url: str = attrs.field(default=attrs.Factory(lambda self: self.name, takes_self=True), repr=False)

    def in_cache(self) -> Path:
        """Another signature or token is the same file where its version is known."""
        version_known = self.expected.mark or self.sha256
        name = shown(self.url) if version_known else without_password(self.url)
        known = map(str, (name, self.expected.bytes, self.expected.mark, self.sha256))
        return self.cache.folder / f"{digest(*known)}.tar"

    def make(self, target: Path, report: Callable[[int], object] | None) -> None:
        fetched = target.with_suffix(".fetched")
        with hiding_secrets(), self.cache.writing(fetched, self.name, report) as part:
            fetch(self.url, part, self.retries, self.expected, self.sha256)
        if is_packed(fetched):
            _gunzip(self, fetched, target)
        else:
            fetched.rename(target)


def written(stat: os.stat_result) -> tuple[int, int]:
    """What a plain tar's rewriting changes, and no other right or name of it."""
    return stat.st_size, stat.st_mtime_ns


def is_packed(path: str | Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == GZIP


def _gunzip(shard: CachedShard, path: str | Path, target: Path) -> None:
    try:
        with gzip.open(path) as source, shard.cache.writing(target, shard.name) as part:
            shutil.copyfileobj(source, part, 1 << 20)
            part.finish()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{shard.name} is truncated or damaged ({error}); {WAY_OUT}") from None
