"""Many small pictures in rows, drawn as one: matplotlib takes seconds for a hundred axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from blocks.pictures.figures.sheet import HEAT, MARK, WIDTH, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TILE = 96  # pixels of a tile's longer side, about
BESIDE = 8  # pixels between tiles of a row
LINE = 0.1  # inches of a caption's line
INCH = 0.95  # inches of a tile's width, at most
ABOVE, BELOW, SCALE = 0.3, 0.3, 0.95  # inches for what stands around the tiles: labels, a caption, a scale
SHORTEST = 1.7  # inches of a figure with a scale, so that its label has room
LETTER = 0.085  # inches of a label's letter, amply


@attrs.frozen(eq=False)
class Mosaic:
    """A figure, and its tiles of `size` (height, width) pixels, `gap` (below, beside) apart."""

    figure: Figure
    axes: Axes
    size: tuple[int, int]
    gap: tuple[int, int]

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """A tile's left and upper edge."""
        return column * (self.size[1] + self.gap[1]), row * (self.size[0] + self.gap[0])

    def caption(self, row: int, column: int, text: str) -> None:
        """A line or two below a tile."""
        left, top = self.corner(row, column)
        where = (left + self.size[1] / 2, top + self.size[0] + 2)
        self.axes.text(*where, text, ha="center", va="top", fontsize=6, linespacing=1.0)

    def frame(self, row: int, column: int, inside: tuple[int, int, int, int] | None = None, colour: str = MARK) -> None:
        """A frame around a tile, or around (left, top, width, height) in it, pixels."""
        from matplotlib.patches import Rectangle

        left, top, width, height = inside or (0, 0, self.size[1], self.size[0])
        x, y = self.corner(row, column)
        self.axes.add_patch(
            Rectangle((x + left - 0.5, y + top - 0.5), width, height, fill=False, color=colour, linewidth=1.5)
        )


def mosaic(
    tiles: Sequence[Sequence[Tensor]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    lines: int = 1,
    below: str = "",
    scale: str = "",
) -> Mosaic:
    """Rows of equal tiles [h, w, 4] in 0 to 1, labelled at the left and above, with room for `lines` of caption each.

    There may be fewer labels than columns. `below` is said below all, and `scale` of the colours of `heat`, at the
    right.
    """
    (height, width, _), longest = tiles[0][0].shape, max(map(len, tiles))
    size = (height, width)
    left = 0.15 + LETTER * max((len(line) for name in rows for line in name.split("\n")), default=0)
    edges = (left, ABOVE * bool(columns) + 0.05, SCALE * bool(scale) + 0.05, BELOW * bool(below) + 0.05)
    across = longest * (size[1] + BESIDE) - BESIDE  # pixels
    inches = min(WIDTH - edges[0] - edges[2], INCH * longest * size[1] / max(size))
    gap = (BESIDE + round(LINE * lines * across / inches), BESIDE)
    whole = torch.zeros(len(tiles) * (size[0] + gap[0]), across, 4)
    figure, axes = _axes(inches, inches * whole.shape[0] / across, edges, SHORTEST * bool(scale))
    made = Mosaic(figure, axes, size, gap)
    for i, row in enumerate(tiles):
        for j, tile in enumerate(row):
            x, y = made.corner(i, j)
            whole[y : y + size[0], x : x + size[1]] = tile
    axes.imshow(whole.numpy(), interpolation="nearest")
    _label(made, rows, columns)
    axes.set_xlabel(below, fontsize="small")
    if scale:
        _scale(made, scale)
    return made


def _axes(
    width: float, height: float, edges: tuple[float, float, float, float], shortest: float
) -> tuple[Figure, Axes]:
    """Axes of so many inches, and room at the left, above, right and below; the figure is at least `shortest`.

    Placed by hand: constrained layout cuts labels off where a picture keeps its proportions.
    """
    left, top, right, bottom = edges
    wide, high = left + width + right, max(top + height + bottom, shortest)
    figure = sheet(wide, high)
    figure.set_layout_engine("none")
    return figure, figure.add_axes((left / wide, 1 - (top + height) / high, width / wide, height / high))


def _label(made: Mosaic, rows: Sequence[str], columns: Sequence[str]) -> None:
    axes, (height, width) = made.axes, made.size
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labeltop=True, labelbottom=False, labelsize="small")
    axes.set_yticks([made.corner(i, 0)[1] + height / 2 for i in range(len(rows))], rows)
    axes.set_xticks([made.corner(0, j)[0] + width / 2 for j in range(len(columns))], columns)


def _scale(made: Mosaic, label: str) -> None:
    """The colours of `heat`, beside the upper rows."""
    from matplotlib.cm import ScalarMappable

    (width, height), box = made.figure.get_size_inches(), made.axes.get_position()
    tall = min(2.6 / height, box.y1 - 0.1 / height)
    axes = made.figure.add_axes((box.x1 + 0.12 / width, box.y1 - tall, 0.12 / width, tall))
    bar = made.figure.colorbar(ScalarMappable(cmap=HEAT), cax=axes)
    bar.set_label(label, fontsize="small")
    axes.tick_params(labelsize="small")


def heat(amounts: Tensor, cell: int) -> Tensor:
    """Amounts [h, w], of which the largest is the brightest, as a tile of squares: -> [cell h, cell w, 4]."""
    import matplotlib

    shares = amounts.float().cpu() / amounts.max().clamp_min(torch.finfo(torch.float32).tiny).cpu()
    squares = shares.repeat_interleave(cell, 0).repeat_interleave(cell, 1)
    return torch.from_numpy(matplotlib.colormaps[HEAT](squares.numpy())).float()


def photograph(picture: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """A picture uint8 [H, W, 3] as a tile of size (height, width), by default about TILE at its longer side."""
    if size is None:
        longer = max(picture.shape[:2])
        share = TILE / longer if longer > TILE else TILE // longer
        size = (round(picture.shape[0] * share), round(picture.shape[1] * share))
    mode = "area" if size[0] < picture.shape[0] else "nearest"
    fitted = F.interpolate(picture.cpu().permute(2, 0, 1)[None] / 255, size, mode=mode)[0]
    return F.pad(fitted, (0, 0, 0, 0, 0, 1), value=1.0).permute(1, 2, 0)  # [h, w, 4]


def head_names(heads: int) -> list[str]:
    """Column labels, short where there are many."""
    return [f"head {h}" if heads <= 8 else str(h) for h in range(heads)]
