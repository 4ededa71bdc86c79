"""Shards whose contents are known, and what the command that looks at shards says of any."""

import hashlib
import json

import numpy as np

from blocks.data.index.index import open_shards
from blocks.data.inspect import __main__ as command
from blocks.data.writing.manifest import write_manifest
from tests.data.pictures import encoded, picture, tar

CLASSES = ["cat", "dog", "owl", "cow"]
WIDE, TALL = encoded(picture(0, 10, 20), "jpeg"), encoded(picture(1, 20, 10, "L"))
CMYK, PALETTE = encoded(picture(2, 10, 10, "CMYK"), "jpeg"), encoded(picture(3, 10, 10, "P"))
FIRST = [("a", "jpg", WIDE, 0), ("b", "jpg", WIDE[:-40], 0), ("c", "png", TALL, 1), ("d", "jpg", WIDE, 0)]
SECOND = [("e", "png", TALL, 2), ("f", "jpg", CMYK, 7), ("g", "png", PALETTE, 0), ("h", "png", b"", 1)]


def shard(path, contents):
    files = [
        part
        for key, extension, data, label in contents
        for part in ((f"{key}.{extension}", data), (f"{key}.cls", b"%d" % label))
    ]
    return tar(path, files)


def index_json(folder, names, splits=("train",)):
    """An index of every shard of a split whose name it begins with, and its checksum."""
    of = {split: [folder / name for name in names if name.startswith(split)] for split in splits}
    opened = {split: open_shards(paths) for split, paths in of.items()}
    tables = {split: np.stack((index.offset, index.size, index.label)) for split, index in opened.items()}
    write_manifest(folder, CLASSES, {split: list(map(_entry, paths)) for split, paths in of.items()}, tables)


def _entry(path):
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"name": path.name, "samples": len(open_shards(path)), "bytes": path.stat().st_size, "sha256": checksum}


def known_shards(folder):
    folder.mkdir()
    shard(folder / "train-0.tar", FIRST)
    shard(folder / "train-1.tar", SECOND)
    index_json(folder, ["train-0.tar", "train-1.tar"])
    return folder


def run(*arguments):
    return command.main([*map(str, arguments), "--workers", "0"])


def facts_of(folder, *arguments):
    target = folder.parent / "facts.json"
    status = run(folder, "--json", target, *arguments)
    return status, json.loads(target.read_text())
