"""`python -m blocks.data.shards FOLDER OUT`: an image folder to webdataset shards with an index."""

import argparse
import functools
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

from blocks.data.decode import UnreadableImage, decode
from blocks.data.folder import ImageFolder, list_images, split_folders
from blocks.data.manifest import FILE, write_manifest
from blocks.data.order import epoch_order
from blocks.data.pool import process_map, progress_bar
from blocks.data.writer import write_shards

__all__ = ["convert", "main", "write_shards"]
CHUNK = 16  # images a worker takes at a time
LISTED = 20  # ignored files named on the screen


def convert(folder: ImageFolder, out: Path, split: str, samples_per_shard: int, workers: int) -> tuple[dict, dict]:
    """Write one split in a fixed shuffled order -> (its entry of the index, {unreadable path: reason}).

    Images are decoded to see that they can be, and stored as they are.
    """
    unreadable: dict[str, str] = {}
    per_class: Counter[int] = Counter()
    with progress_bar() as bar:
        task = bar.add_task(split, total=len(folder.images))
        samples = _samples(folder, workers, unreadable, per_class, lambda: bar.advance(task))
        shards = write_shards(samples, out, split, samples_per_shard)
    counts = [per_class[label] for label in range(len(folder.classes))]
    return {"samples": sum(counts), "shards": shards, "samples_per_class": counts}, unreadable


def _samples(
    folder: ImageFolder, workers: int, unreadable: dict, per_class: Counter, advance
) -> Iterator[dict[str, Any]]:
    order = epoch_order(len(folder.images), seed=0, epoch=0).tolist()
    images = [folder.images[i] for i in order]
    results = process_map(functools.partial(_read_verified, folder.root), [path for path, _ in images], workers, CHUNK)
    for (path, label), result in zip(images, results, strict=True):
        advance()
        if isinstance(result, UnreadableImage):
            unreadable[result.name] = result.reason
            continue
        stem, _, extension = os.path.basename(path).rpartition(".")
        key = f"{per_class.total():08d}_{re.sub('[^A-Za-z0-9_-]', '_', stem)[:60]}"
        per_class[label] += 1
        yield {"__key__": key, extension.lower().replace("jpeg", "jpg"): result, "cls": b"%d" % label}


def _read_verified(root: Path, path: str) -> bytes | UnreadableImage:
    try:
        data = (root / path).read_bytes()
        decode(data, path)
    except UnreadableImage as error:
        return error
    except OSError as error:
        return UnreadableImage(path, str(error.strerror))
    return data


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when done, 1 for unreadable images with --strict, 2 for a mistake."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except (ValueError, OSError, BrokenExecutor) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: nothing is kept", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    out = Path(options.out)
    folders = {name: list_images(path) for name, path in split_folders(Path(options.folder), options.split).items()}
    classes = _common_classes(folders)
    _refuse_shards(out)
    splits: dict[str, dict[str, Any]] = {}
    unreadable: dict[str, str] = {}
    try:
        for name, folder in folders.items():
            splits[name], bad = convert(folder, out, name, options.samples_per_shard, options.workers)
            _report(name, folder, splits[name], bad, out)
            unreadable |= bad
        if unreadable and options.strict:
            raise _Strict
        write_manifest(out, list(classes), splits)
    except BaseException as error:
        for shard in (shard for split in splits.values() for shard in split["shards"]):
            (out / shard["name"]).unlink(missing_ok=True)
        if isinstance(error, _Strict):
            print(f"error: {len(unreadable)} unreadable images and --strict: nothing is kept", file=sys.stderr)
            return 1
        raise
    return 0


class _Strict(Exception):
    """Unreadable images that --strict does not allow."""


def _common_classes(folders: dict[str, ImageFolder]) -> tuple[str, ...]:
    (first, folder), *others = folders.items()
    for name, other in others:
        if other.classes != folder.classes:
            odd = sorted(set(other.classes) ^ set(folder.classes))
            raise ValueError(f"{first} and {name} differ in classes: {', '.join(odd[:5])}; give both the same folders")
    return folder.classes


def _refuse_shards(out: Path) -> None:
    found = sorted(p.name for p in out.iterdir() if ".tar" in p.suffixes or p.name == FILE) if out.is_dir() else []
    if found:
        raise ValueError(
            f"{out} holds shards already ({found[0]}, {len(found)} files); give another folder or delete them"
        )
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; give a folder")


def _report(name: str, folder: ImageFolder, entry: dict, unreadable: dict[str, str], out: Path) -> None:
    print(
        f"{name}: {entry['samples']} images of {len(folder.classes)} classes in {len(entry['shards'])} shards in {out}"
    )
    empty = [c for c, count in zip(folder.classes, entry["samples_per_class"], strict=True) if not count]
    if empty:
        print(f"{name}: {len(empty)} classes without images: {_printable(', '.join(empty[:LISTED]))}")
    if folder.ignored:
        more = f" and {len(folder.ignored) - LISTED} more" if len(folder.ignored) > LISTED else ""
        print(
            f"{name}: {len(folder.ignored)} files are no images: {_printable(', '.join(folder.ignored[:LISTED]))}{more}"
        )
    for path, reason in unreadable.items():
        print(f"{name}: unreadable: {_printable(path)}: {_printable(reason)}")
    if unreadable:
        print(f"{name}: {len(unreadable)} of {len(folder.images)} images are unreadable and were left out")


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m blocks.data.shards", description=__doc__)
    parser.add_argument("folder", metavar="FOLDER", help="class sub-folders with images, or train/ and val/ of these")
    parser.add_argument("out", metavar="OUT", help="folder for SPLIT-000000.tar ... and index.json")
    parser.add_argument("--split", help="the shards' prefix, or the one of train/ and val/ to convert (default: train)")
    parser.add_argument("--samples-per-shard", type=int, default=10_000, metavar="N")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes that decode")
    parser.add_argument("--strict", action="store_true", help="unreadable images are an error")
    return parser


if __name__ == "__main__":
    sys.exit(main())
