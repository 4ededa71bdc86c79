"""`python -m blocks.report RUN [RUN ...]`: a run's figures as PNGs and in one HTML page.

Of several runs the page is about the first, compared with the others.
"""

import argparse
import sys
from typing import NoReturn

from blocks.interop.trusted import trusting
from blocks.report.write import write_report


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when the page is written, 2 for a mistake."""
    options = _parser().parse_args(arguments)
    first, *others = options.runs
    try:
        how = {"images": options.images, "which": options.which, "out": options.out}
        write_report(first, others=others, **how, trusted=trusting(options.trusted))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


class _Parser(argparse.ArgumentParser):
    """argparse, whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (--help lists all)\n")


def _parser() -> argparse.ArgumentParser:
    usage = "python -m blocks.report RUN [RUN ...] [--flag value ...]"
    parser = _Parser(usage=usage, description=__doc__, allow_abbrev=False)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="the folder of a run")
    images = "a folder of pictures, or shards, to look at (default: the run's validation images)"
    parser.add_argument("--images", metavar="FOLDER_OR_SHARDS", help=images)
    which = "the weights to look at: as trained (default), their average, a self-supervised run's teacher"
    parser.add_argument("--which", choices=("params", "ema", "teacher"), default="params", help=which)
    out = "the page's folder (default: RUN/report; RUN/report-images for other images; RUN/comparison for several runs)"
    parser.add_argument("--out", metavar="FOLDER", help=out)
    trusted = "a package or file (mine.py) of whose blocks the run's model may be made; may be given several times"
    parser.add_argument("--trusted", metavar="PACKAGE", action="append", default=[], help=trusted)
    return parser


if __name__ == "__main__":
    sys.exit(main())
