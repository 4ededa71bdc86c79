"""The sections of a report, and how each comes to be: what fails or is missing is told in its place."""

from collections.abc import Callable, Iterable, Mapping

import attrs

from blocks.report.material import Material
from blocks.report.parts import Absent, Drawing, Image, Missing, Part, Section
from blocks.report.png import light_and_dark

Maker = Callable[[Material], Iterable[Part]]


@attrs.frozen
class Chapter:
    """A section to be: `makers` by the name of what they make. It is left out where it does not `fit` the run."""

    title: str
    intro: str
    makers: Mapping[str, Maker]
    fits: Callable[[Material], bool] = lambda material: True


def written(chapter: Chapter, material: Material) -> Section | None:
    """The section, None where it does not fit or nothing is in it. It raises nothing: what cannot be made is said."""
    parts: list[Part] = []
    reasons: dict[str, list[str]] = {}
    try:
        makers = chapter.makers if chapter.fits(material) else {}
    except Absent as absent:
        makers, reasons = {}, {str(absent): list(chapter.makers)}
    for name, make in makers.items():
        try:
            parts += [_drawn(part) for part in make(material)]
        except Absent as absent:
            reasons.setdefault(str(absent), []).append(name)
        except Exception as error:  # a report never fails for one of its pictures
            reasons.setdefault(f"it failed with {type(error).__name__}: {error}", []).append(name)
    parts += [Missing(tuple(names), why) for why, names in reasons.items()]
    return Section(chapter.title, chapter.intro, tuple(parts)) if parts else None


def _drawn(part: Part) -> Part:
    if not isinstance(part, Drawing):
        return part
    return Image(part.name, part.title, part.sentence, *light_and_dark(part.draw))
