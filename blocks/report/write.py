"""A run's folder to PNGs and one page: what `python -m blocks.report` and the end of a run do."""

import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch

from blocks.interop.construction import TRUSTED
from blocks.interop.layouts import Which
from blocks.report.chapters import Chapter, written
from blocks.report.contents import CHAPTERS
from blocks.report.headline import foot, lead, title
from blocks.report.material import Live, Material
from blocks.report.page import page
from blocks.report.parts import Image, Missing, Section
from blocks.runs.run import Run

PAGE = "report.html"
DRAWN = re.compile(r'<figure id="([\w-]+)">')  # what such a page shows of its PNGs


def write_report(
    folder: str | os.PathLike,
    *,
    others: Sequence[str | os.PathLike] = (),
    images: str | os.PathLike | None = None,
    which: Which = "params",
    out: str | os.PathLike | None = None,
    live: Live | None = None,
    trusted: Sequence[str] = TRUSTED,
    say: Callable[[str], None] = print,
) -> Path:
    """Write a page about a run, compared with others, and its figures as PNGs -> the page.

    It looks at `images`, a folder of pictures or shards, by default at the run's own validation images, with the newest
    "params", their "ema" or the "teacher". It goes to `out`, by default `folder/report`, or `folder/comparison` where
    there are others, and `folder/report-images` for other images. PNGs of an older page are removed. A model of other
    code than this library's is built where its package is `trusted`; a run's end shows the `live` one. What cannot be
    shown is said in the page. Raises OSError and ValueError for folders that are no run's and images that are none.
    """
    began = time.monotonic()
    runs = [Run.open(Path(place)) for place in (folder, *others)]
    usual = "comparison" if others else "report-images" if images is not None else "report"
    target = Path(out) if out is not None else runs[0].folder / usual
    material = Material(runs[0], runs[1:], which, images, live, trusted)
    with material.scratch, torch.no_grad():
        _ = material.given_samples  # a mistake in their name is none to write a page about
        sections = _sections(CHAPTERS, material)
        path = _write(target, page(title(material), lead(material), sections, foot(material)), sections)
    say("\n".join([f"report: {path} ({time.monotonic() - began:.1f} s)", *_missing(sections)]))
    return path


def _missing(sections: Iterable[Section]) -> list[str]:
    """A line for each reason why something is not shown."""
    names: dict[str, list[str]] = {}
    for section in sections:
        for part in section.parts:
            if isinstance(part, Missing):
                names.setdefault(part.why, []).extend(part.names)
    return [f"  without {', '.join(found)}: {why}" for why, found in names.items()]


def _sections(chapters: Iterable[Chapter], material: Material) -> list[Section]:
    found = [written(chapter, material) for chapter in chapters]
    return [section for section in found if section is not None]


def _clear(target: Path) -> None:
    """Remove an older page's PNGs, those that it names: others are somebody's own."""
    older = target / PAGE
    drawn = DRAWN.findall(older.read_text(encoding="utf-8")) if older.is_file() else []
    for name in drawn:
        (target / f"{name}.png").unlink(missing_ok=True)


def _write(target: Path, html: str, sections: Sequence[Section]) -> Path:
    target.mkdir(parents=True, exist_ok=True)
    _clear(target)
    for section in sections:
        for part in section.parts:
            if isinstance(part, Image):
                (target / f"{part.name}.png").write_bytes(part.light)
    temporary = target / f"{PAGE}.tmp"
    temporary.write_text(html, encoding="utf-8")
    os.replace(temporary, target / PAGE)
    return target / PAGE
