"""Sections as one HTML page that needs nothing beside it: styles and pictures are inside; its policy allows no more.

Whatever comes from a run, names, settings, errors, is escaped.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from blocks.report.embedding import data_url, size
from blocks.report.numbers import shown
from blocks.report.parts import Image, Missing, Part, Remark, Section, Table
from blocks.report.png import DPI

HERE = Path(__file__).parent
PIXELS = 96  # of a page in an inch
LEGIBLE = 0.75  # of a picture's full size: narrower, it pans on a small screen


def page(title: str, lead: str, sections: Sequence[Section], foot: str) -> str:
    """The HTML. The texts are plain."""
    links = "\n".join(f'<li><a href="#{escape(s.anchor)}">{escape(s.title)}</a></li>' for s in sections)
    return Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        lead=escape(lead),
        foot=escape(foot),
        links=links,
        sections="\n".join(map(_section, sections)),
        style=(HERE / "page.css").read_text(encoding="utf-8"),
    )


def _section(section: Section) -> str:
    parts = "\n".join(map(_part, section.parts))
    name = escape(section.anchor)
    intro = f'<p class="intro">{escape(section.intro)}</p>' if section.intro else ""
    head = f'<h2 id="{name}">{escape(section.title)}</h2>\n{intro}'
    return f'<section aria-labelledby="{name}">\n{head}\n{parts}\n</section>'


def _part(part: Part) -> str:
    if isinstance(part, Image):
        return _image(part)
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Remark | Missing):
        kind = "warning" if isinstance(part, Remark) and part.warning else "remark"
        return f'<p class="{kind}">{escape(part.text)}</p>'
    raise TypeError(f"{part.title!r} is not drawn yet; a page shows its Image")


def _image(image: Image) -> str:
    """Both pictures, one of which is shown: as wide as the card, at most its own size, never too small to read."""
    width, height = (round(side * PIXELS / DPI) for side in size(image.light))
    style = f"max-width: {width}px; min-width: {min(width, round(LEGIBLE * width))}px"
    sentence = escape(image.sentence)
    return f"""<figure id="{escape(image.name)}">
<h3>{escape(image.title)}</h3>
<div class="pan"><picture>
<source media="(prefers-color-scheme: dark)" srcset="{data_url(image.dark)}">
<img src="{data_url(image.light)}" alt="{sentence}" width="{width}" height="{height}" style="{style}">
</picture></div>
<figcaption>{sentence}</figcaption>
</figure>"""


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    head = f"<thead><tr>{head}</tr></thead>\n" if head else ""
    rows = "\n".join(map(_row, table.rows))
    body = f'<div class="pan"><table>\n{head}<tbody>\n{rows}\n</tbody>\n</table></div>'
    title = escape(table.title)
    if table.folded:
        return f'<details class="card">\n<summary>{title}</summary>\n{body}\n</details>'
    return f'<div class="card">\n<h3>{title}</h3>\n{body}\n</div>'


def _row(cells: Sequence[object]) -> str:
    first, *rest = (escape(shown(cell)) for cell in cells)
    return f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'
