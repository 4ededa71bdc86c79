"""`python -m blocks.data.inspect SHARDS`: what shards hold, what is damaged, and what a model would see of them.

Every picture is decoded. Exit status 0 when all is well; 1 for unreadable pictures, wrong checksums, labels that are no
class or are not there; 2 for a mistake, or shards that cannot be opened.
"""

import argparse
import json
import os
import sys
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from blocks.data.bars import progress_bar
from blocks.data.index.index import Index, open_shards
from blocks.data.index.read import Reader
from blocks.data.inspect.census import take_census
from blocks.data.inspect.checksums import stated_checksums, verify
from blocks.data.inspect.contact_sheet import contact_sheet
from blocks.data.inspect.facts import Facts, gather
from blocks.data.inspect.knobs import add_flags, given_flags, seeing
from blocks.data.inspect.report import report
from blocks.data.inspect.views import readable_samples, seen, sheet_rows
from blocks.data.printable import printable


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when all is well, 1 when something is damaged, 2 for a mistake."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except (ValueError, OSError, BrokenExecutor) as error:
        print("error:", " ".join(printable(line) for line in str(error).split("\n")), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    _check_targets(options)
    index = open_shards(options.shards, options.split, need_labels=False)
    if options.sheet:  # first, for it is made in seconds and has the most to say against
        _draw(index, options)
    facts = _facts(index, options)
    print(report(facts))
    if options.json:
        Path(options.json).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    wrong = facts["checksums"]["wrong"] or facts["wrong_labels"]["samples"]
    return int(bool(facts["damaged"] or facts["incomplete"] or wrong))


def _facts(index: Index, options: argparse.Namespace) -> Facts:
    names = [shard.name for shard in index.shards]
    with progress_bar(visible=sys.stdout.isatty()) as bar:
        stated = len(stated_checksums(names))
        files = bar.add_task("checksums", total=stated, visible=bool(stated))
        samples = bar.add_task("pictures", total=len(index))
        checksums = verify(names, options.workers, lambda: bar.advance(files))
        census = take_census(index, options.workers, options.quick, lambda: bar.advance(samples))
    return {**gather(index, census), "checksums": checksums, "quick": options.quick}


def _draw(index: Index, options: argparse.Namespace) -> None:
    samples = readable_samples(index, options.rows, options.seed)
    if not len(samples):
        print(f"{options.sheet}: not drawn, for no sample is readable")
        return
    chosen = index.take(samples)
    reader = Reader(chosen)
    short_sides = [min(reader.image(sample).size) for sample in range(len(chosen))]
    how = seeing(options, int(np.median(short_sides)))
    columns = seen(chosen, how.transform, options.columns, options.seed, how.erase, how.mix)
    sheet = contact_sheet(sheet_rows(chosen, columns), [heading for heading, _ in columns], how.title)
    sheet.save(options.sheet)
    print(f"{options.sheet}: {len(chosen)} samples, {how.title}")


def _check_targets(options: argparse.Namespace) -> None:
    """Before hours of work: the files can be written, are of the kind that they say, and every flag is for one."""
    for flag in ("sheet", "json"):
        target = getattr(options, flag)
        if target and not Path(target).absolute().parent.is_dir():
            raise ValueError(f"--{flag} {target}: its folder does not exist; make it first")
    if options.sheet and Path(options.sheet).suffix.lower() != ".png":
        raise ValueError(f"--sheet {options.sheet} is not a .png; give {Path(options.sheet).with_suffix('.png')}")
    if not options.sheet and (unused := given_flags(options)):
        raise ValueError(f"{', '.join(unused)} are for a sheet; give --sheet FILE.png too")


class _Parser(argparse.ArgumentParser):
    """argparse, whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (--help lists all)\n")


def _parser() -> argparse.ArgumentParser:
    usage = "python -m blocks.data.inspect SHARDS [--flag value ...]"
    parser = _Parser(usage=usage, description=__doc__, allow_abbrev=False)
    parser.add_argument("shards", nargs="+", metavar="SHARDS", help="patterns, files or a folder of shards")
    parser.add_argument("--split", help="which of several splits in a folder")
    parser.add_argument("--quick", action="store_true", help="look at headers only: truncated pictures are not found")
    parser.add_argument("--json", metavar="FILE", help="the same facts for machines")
    parser.add_argument("--workers", **_number(os.cpu_count() or 1, 0), help="processes that decode")
    parser.add_argument("--sheet", metavar="FILE.png", help="draw samples as stored, and as training would see them")
    parser.add_argument("--rows", **_number(10), help="samples on the sheet (default: 10), spread over the classes")
    parser.add_argument("--columns", **_number(8), help="views of each (default: 8), where --views makes fewer")
    parser.add_argument("--seed", **_number(0, 0), help="of the choice of samples, and of what is drawn for them")
    add_flags(parser)
    return parser


def _number(default: int, least: int = 1) -> dict[str, Any]:
    def whole(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number from {least} on")
        return int(text)

    return dict(type=whole, default=default, metavar="N")


if __name__ == "__main__":
    sys.exit(main())
