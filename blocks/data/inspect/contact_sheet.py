"""Rows of pictures under their captions, drawn on one: pixels stay as they are, or are enlarged by whole factors."""

import functools
from collections.abc import Sequence

import attrs
from PIL import Image, ImageDraw, ImageFont

SMALL = 128  # pixels: smaller pictures are enlarged, as often as they fit
GAP = 6  # pixels between pictures, and around all
TEXT, MARGIN = 13, 18  # a letter's height, and a line's, in pixels
PAPER, INK, FAINT = (255, 255, 255), (0, 0, 0), (110, 110, 110)


@attrs.frozen
class Row:
    """A caption, the picture as it is stored, and the views of it."""

    caption: str
    stored: Image.Image
    views: tuple[Image.Image, ...]


@attrs.frozen
class Layout:
    """Where things lie: left edges of the columns, top edges of the rows' captions, and the sheet's size; pixels."""

    factor: int  # of enlargement, one for all views
    cell: tuple[int, int]  # of a stored picture
    lefts: tuple[int, ...]
    tops: tuple[int, ...]
    size: tuple[int, int]


def contact_sheet(rows: Sequence[Row], headings: Sequence[str], title: str = "") -> Image.Image:
    """One RGB picture: a row each, first the stored picture, fitted to the largest view, then its views.

    All rows have as many views as there are headings, of one size in a column. A title is broken to fit the width,
    a caption cut.
    """
    layout = lay_out(rows, headings, title)
    sheet = Image.new("RGB", layout.size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for line, text in enumerate(_broken(title, layout.size[0] - 2 * GAP)):
        draw.text((GAP, GAP + line * MARGIN), text, INK, _font())
    for left, heading in zip(layout.lefts, ("stored", *headings), strict=True):
        draw.text((left, layout.tops[0] - MARGIN), heading, FAINT, _font())
    for row, top in zip(rows, layout.tops, strict=True):
        draw.text((GAP, top), _cut(row.caption, layout.size[0] - 2 * GAP), INK, _font())
        pictures = (fitted(row.stored, layout.cell), *(enlarged(view, layout.factor) for view in row.views))
        for left, picture in zip(layout.lefts, pictures, strict=True):
            sheet.paste(picture, (left, top + MARGIN))
    return sheet


def lay_out(rows: Sequence[Row], headings: Sequence[str], title: str = "") -> Layout:
    """The sheet's geometry. Raises ValueError for no rows, or for another number of views than of headings."""
    if not rows or any(len(row.views) != len(headings) for row in rows):
        counts = sorted({len(row.views) for row in rows})
        raise ValueError(f"{len(rows)} rows of {counts} views do not fit {len(headings)} headings; give one each")
    sizes = [view.size for view in rows[0].views]
    factor = max(1, SMALL // max(map(max, sizes)))
    cell = max(width for width, _ in sizes) * factor, max(height for _, height in sizes) * factor
    widths = [cell[0], *(width * factor for width, _ in sizes)]
    lefts = [GAP]
    for width, heading in zip(widths, ("stored", *headings), strict=True):
        lefts.append(lefts[-1] + max(width, _length(heading)) + GAP)
    first = GAP + MARGIN * (len(_broken(title, lefts[-1] - 2 * GAP)) + 1)
    tops = [first + row * (MARGIN + cell[1] + GAP) for row in range(len(rows) + 1)]
    return Layout(factor, cell, tuple(lefts[:-1]), tuple(tops[:-1]), (lefts[-1], tops[-1]))


def fitted(picture: Image.Image, cell: tuple[int, int]) -> Image.Image:
    """A whole picture within a cell: enlarged as often as it fits, or made smaller."""
    share = min(cell[0] / picture.width, cell[1] / picture.height)
    if share >= 1:
        return enlarged(picture, int(share))
    width, height = (max(1, round(side * share)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def enlarged(picture: Image.Image, factor: int) -> Image.Image:
    """Every pixel as a square of factor x factor."""
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


@functools.lru_cache(maxsize=1)
def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(TEXT)


def _length(text: str) -> int:
    return int(_font().getlength(text)) + 1


def _cut(text: str, width: int) -> str:
    """The text, or as much of its beginning as fits, with three dots."""
    if _length(text) <= width:
        return text
    while text and _length(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def _broken(text: str, width: int) -> list[str]:
    """Lines of words that fit."""
    lines: list[str] = []
    for word in text.split():
        if lines and _length(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
