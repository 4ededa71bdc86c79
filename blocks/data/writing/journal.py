"""What is finished of a conversion, so that it can go on: a file beside the shards until all of them are there."""

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from blocks.data.writing.manifest import FILE, TIMM_FILE
from blocks.data.writing.writer import shard_name, writing_to
from blocks.locks import take_lock

NAME = "unfinished.jsonl"
WAY_OUT = "go on with the former, or begin anew with --restart (restart=True)"


class Journal:
    """A line with the settings, then one for each whole shard: {"split", "shard", "rows", ...}.

    One process at a time has it, where there are locks. Raises ValueError for a folder with other shards, or with those
    of other settings.
    """

    records: list[dict[str, Any]]
    _settings: dict[str, Any]

    def __init__(self, folder: Path, settings: dict[str, Any], restart: bool):
        self.folder, self._path = folder, folder / NAME
        if not self._path.exists():
            _refuse_shards(folder)
        with writing_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = open(self._path, "a+b")  # noqa: SIM115, closed by close
        try:
            self._lock()
            self._begin(settings, restart)
        except BaseException:
            self._file.close()
            raise

    def shards(self, split: str) -> list[dict[str, Any]]:
        """The records of a split's whole shards."""
        return [record for record in self.records if record["split"] == split]

    def add(self, record: dict[str, Any]) -> None:
        """Remember a shard that has its name."""
        self._append(record)
        self.records.append(record)

    def discard(self) -> None:
        """Remove all that was written, and the journal's lines."""
        splits = {*self._settings.get("sources", ()), *(record["split"] for record in self.records)}
        for name in [*self._names(), FILE, TIMM_FILE, *(f"{split}-samples.npy" for split in splits)]:
            (self.folder / name).unlink(missing_ok=True)
            (self.folder / f"{name}.tmp").unlink(missing_ok=True)
        self._file.truncate(0)
        self.records = []

    def close(self, finished: bool) -> None:
        """Let others have it; one without whole shards, or of a finished conversion, is removed."""
        if not finished and not self.records:
            self.discard()  # a shard may have its name, and no line yet
        if not self.records or finished:
            self._path.unlink(missing_ok=True)
        self._file.close()

    def _lock(self) -> None:
        if take_lock(fcntl.lockf, self._file, fcntl.LOCK_EX | fcntl.LOCK_NB) is False:
            raise ValueError(f"another process is writing shards to {self.folder}; wait for it, or stop it")

    def _begin(self, settings: dict[str, Any], restart: bool) -> None:
        self._settings, self.records, length = self._read()
        strangers = [name for name in _shards_in(self.folder) if name.removesuffix(".tmp") not in self._names()]
        if strangers:
            raise ValueError(
                f"{self.folder} is half-finished and holds other shards ({strangers[0]}, {len(strangers)} files); "
                "move them elsewhere"
            )
        if restart or not self.records:
            self.discard()
            self._settings = settings
            self._append(settings)
        elif _compared(settings) != _compared(self._settings):
            raise ValueError(f"{self.folder} is half-finished {_difference(self._settings, settings)}; {WAY_OUT}")
        else:
            self._file.truncate(length)

    def _read(self) -> tuple[dict[str, Any], list[dict[str, Any]], int]:
        """Settings, the records up to the first that is torn or whose shard is not there, and the bytes of them."""
        self._file.seek(0)
        settings = _parsed(self._file.readline())
        length, records = self._file.tell(), list[dict[str, Any]]()
        while (record := _parsed(self._file.readline())) and self._is_whole(record["shard"]):
            records.append({**record, "rows": np.array(record["rows"], np.int64)})
            length = self._file.tell()
        return settings, records, length

    def _is_whole(self, shard: dict[str, Any]) -> bool:
        path = self.folder / shard["name"]
        return path.is_file() and path.stat().st_size == shard["bytes"]

    def _names(self) -> list[str]:
        """Whole shards, and of each split the next: it may be there without its line."""
        nexts = [shard_name(split, len(self.shards(split))) for split in self._settings.get("sources", ())]
        return [record["shard"]["name"] for record in self.records] + nexts

    def _append(self, content: dict[str, Any]) -> None:
        with writing_to(self.folder):
            self._file.write(json.dumps(content, default=np.ndarray.tolist).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())


def _parsed(line: bytes) -> dict[str, Any]:
    """What a line says, nothing for one that was not written to its end."""
    return json.loads(line) if line.endswith(b"\n") else {}


def _shards_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if ".tar" in path.suffixes)


def _refuse_shards(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give a folder")
    found = [name for name in (FILE, TIMM_FILE) if (folder / name).exists()] if folder.is_dir() else []
    found = _shards_in(folder) + found if folder.is_dir() else []
    if found:
        raise ValueError(
            f"{folder} holds shards already ({found[0]}, {len(found)} files); give another folder or delete them"
        )


def _compared(settings: dict[str, Any]) -> dict[str, Any]:
    """Without the sources' names: a folder that was moved is the same source."""
    identities = {split: identity for split, (_, identity) in settings["sources"].items()}
    return {"labelled": True, "val_share": None, **settings, "sources": identities}  # older ones say nothing of these


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    told = {name: ", ".join(_differing(*pair)) for name, pair in (("with", (old, new)), ("now", (new, old)))}
    if told["with"] == told["now"]:
        return f"and {told['now']} changed since: other files, sizes, times, labels or class names"
    return f"with {told['with']}; now {told['now']}"


def _differing(one: dict[str, Any], other: dict[str, Any]) -> Iterator[str]:
    for name, value in _compared(one).items():
        if value != _compared(other).get(name) and name != "sources":
            yield f"{name} {value}"
    if _compared(one)["sources"] != _compared(other)["sources"]:
        yield " and ".join(f"{split} from {name}" for split, (name, _) in one["sources"].items())
