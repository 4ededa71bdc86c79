"""Shards against the sha256 that an index.json beside them states (version 2)."""

import hashlib
import os
from collections.abc import Iterable
from typing import Any

from blocks.data.index.files import IndexFiles
from blocks.data.inspect.census import Advance
from blocks.data.pool import process_map
from blocks.data.storage.retries import Retries


def stated_checksums(shards: Iterable[str]) -> dict[str, str]:
    """The sha256, in hex, of those of these files for which an index.json in their folder states one."""
    files = [shard for shard in shards if os.path.isfile(shard)]
    folders = {folder: _by_name(folder) for folder in {os.path.dirname(file) for file in files}}
    stated = {file: folders[os.path.dirname(file)].get(os.path.basename(file)) for file in files}
    return {file: checksum for file, checksum in stated.items() if checksum is not None}


def verify(shards: Iterable[str], workers: int = 0, advance: Advance = lambda: None) -> dict[str, Any]:
    """{"verified": number of shards that are as stated, "wrong": [their names]}; a shard without a sha256 is neither.

    `advance` is called after each.
    """
    stated = stated_checksums(shards)
    wrong = []
    for (shard, wanted), found in zip(stated.items(), process_map(_sha256, stated, workers), strict=True):
        if found != wanted:
            wrong.append(shard)
        advance()
    return {"verified": len(stated) - len(wrong), "wrong": wrong}


def _by_name(folder: str) -> dict[str, str | None]:
    index = IndexFiles(Retries()).at(folder)
    return {name: entry.sha256 for name, (_, entry) in index.entries.items()} if index else {}


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
