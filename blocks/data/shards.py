"""`python -m blocks.data.shards SOURCE OUT`: an image folder or a list of images to webdataset shards with an index.

Sub-folders are classes, and --val-share sets a part of each aside as the split val; with --unlabelled pictures may lie
anywhere, and have none (of a folder with train/ and others, those of train/ alone).

What is interrupted goes on when the same command is given again.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path

from blocks.data.decode import EXTENSIONS
from blocks.data.printable import printable
from blocks.data.writing.convert import NothingKept, Written, write_dataset
from blocks.data.writing.encoding import FORMATS, QUALITY, Encoding
from blocks.data.writing.folder import left_out
from blocks.data.writing.writer import write_shards

__all__ = ["main", "write_shards"]
LISTED = 20  # names of what was left out, on the screen


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when done, 1 for unreadable images with --strict, 2 for a mistake or a full disk."""
    options = _parser().parse_args(arguments)
    try:
        written = _convert(options)
    except NothingKept as error:
        _report(error.written, options.out)
        return _failed(error, 1)
    except (ValueError, OSError, BrokenExecutor) as error:
        return _failed(error, 2)
    except KeyboardInterrupt as error:
        notes = getattr(error, "__notes__", ["no shard was whole, nothing is kept"])
        print("; ".join(["interrupted", *notes]), file=sys.stderr)
        return 130
    _report(written, options.out)
    if _are_below(written, options) and (rest := left_out(Path(options.source), written)):
        _say(f"not converted, for it is none of {', '.join(written)}: {_some(rest)}")
    return 0


def _are_below(written: dict[str, Written], options: argparse.Namespace) -> bool:
    """Whether splits were found in the source, which may hold more."""
    places = {name: str(Path(options.source) / name) for name in written}
    return not options.split and places == {name: one.source.name for name, one in written.items()}


def _failed(error: Exception, code: int) -> int:
    print("; ".join([f"error: {error}", *getattr(error, "__notes__", [])]), file=sys.stderr)
    return code


def _convert(options: argparse.Namespace) -> dict[str, Written]:
    return write_dataset(
        options.source,
        options.out,
        options.split,
        samples_per_shard=options.samples_per_shard,
        bytes_per_shard=options.bytes_per_shard,
        encoding=Encoding(options.resize, options.reencode, options.quality),
        workers=options.workers,
        strict=options.strict,
        restart=options.restart,
        labelled=not options.unlabelled,
        val_share=options.val_share,
    )


def _report(written: dict[str, Written], out: str) -> None:
    for split, one in written.items():
        for line in _lines(one, out):
            _say(f"{split}: {line}")


def _say(line: str) -> None:
    print(printable(line))


def _lines(one: Written, out: str) -> Iterator[str]:
    counts, source, stored = one.samples_per_class, one.source, one.table.shape[1]
    kind = f"of {len(counts)} classes" if source.labelled else "without labels"
    yield f"{stored} images {kind} in {len(one.shards)} shards in {out}"
    empty = [name for name, count in zip(source.classes, counts, strict=False) if not count]
    if empty:
        yield f"{len(empty)} classes without images: {', '.join(empty[:LISTED])}"
    if source.ignored:
        yield f"{len(source.ignored)} files do not end in {', '.join(EXTENSIONS)}: {_some(source.ignored)}"
    for name, reason in one.unreadable:
        yield f"unreadable: {name}: {reason}"
    if one.unreadable:
        yield f"{len(one.unreadable)} of {stored + len(one.unreadable)} images are unreadable and were left out"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m blocks.data.shards", description=__doc__)
    add = parser.add_argument
    add("source", metavar="SOURCE", help="folder of classes, or of train/, val/ (and test/); or .csv, .json, .jsonl")
    add("out", metavar="OUT", help="folder for SPLIT-000000.tar ... and index.json")
    add("--split", help="the shards' prefix (default: train), or the one of train/, val/, test/ to convert")
    add("--val-share", type=float, metavar="F", help="write train and val: this share of every class, 0.1 for example")
    add("--unlabelled", action="store_true", help="pictures alone, for pretraining: SOURCE is any folder, or any list")
    add("--samples-per-shard", type=int, default=10_000, metavar="N")
    add("--bytes-per-shard", type=int, default=1_000_000_000, metavar="N")
    add("--resize", type=int, metavar="N", help="make the short side at most N pixels, in the picture's own format")
    add("--reencode", choices=list(FORMATS), help="store every picture in this format (default: its bytes unchanged)")
    add("--quality", type=int, metavar="Q", help=f"of jpg and webp that are encoded again (default: {QUALITY})")
    add("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes that decode")
    add("--strict", action="store_true", help="unreadable images are an error, nothing is kept then")
    add("--restart", action="store_true", help="forget what an interrupted conversion left, and begin anew")
    return parser


if __name__ == "__main__":
    sys.exit(main())
