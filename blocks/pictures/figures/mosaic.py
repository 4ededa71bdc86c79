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
LINE = 17  # pixels of a caption's line
INCH = 0.95  # inches of a tile's width, at most
EDGE = 1.3  # inches for the labels at the left and a scale at the right


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


def mosaic(tiles: Sequence[Sequence[Tensor]], rows: Sequence[str], columns: Sequence[str], lines: int = 1) -> Mosaic:
    """Rows of equal tiles [h, w, 4] in 0 to 1, labelled at the left and above, with room below for `lines` of caption.

    There may be fewer labels than columns.
    """
    height, width = tiles[0][0].shape[:2]
    gap = (LINE * lines + 6, 8)
    longest = max(map(len, tiles))
    whole = torch.zeros(len(tiles) * (height + gap[0]), longest * (width + gap[1]) - gap[1], 4)
    inches = min(WIDTH - EDGE, INCH * longest * width / max(height, width))
    figure = sheet(inches + EDGE, inches * whole.shape[0] / whole.shape[1] + 0.35)
    made = Mosaic(figure, figure.add_subplot(), (height, width), gap)
    for i, row in enumerate(tiles):
        for j, tile in enumerate(row):
            left, top = made.corner(i, j)
            whole[top : top + height, left : left + width] = tile
    made.axes.imshow(whole.numpy(), interpolation="nearest")
    _label(made, rows, columns)
    return made


def _label(made: Mosaic, rows: Sequence[str], columns: Sequence[str]) -> None:
    axes, (height, width) = made.axes, made.size
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labeltop=True, labelbottom=False, labelsize="small")
    axes.set_yticks([made.corner(i, 0)[1] + height / 2 for i in range(len(rows))], rows)
    axes.set_xticks([made.corner(0, j)[0] + width / 2 for j in range(len(columns))], columns)


def heat(amounts: Tensor, cell: int) -> Tensor:
    """Amounts [h, w], of which the largest is the brightest, as a tile of squares: -> [cell h, cell w, 4]."""
    import matplotlib

    shares = amounts.float().cpu() / amounts.max().clamp_min(torch.finfo(torch.float32).tiny).cpu()
    squares = shares.repeat_interleave(cell, 0).repeat_interleave(cell, 1)
    return torch.from_numpy(matplotlib.colormaps[HEAT](squares.numpy())).float()


def heat_bar(made: Mosaic, label: str) -> None:
    """The scale of `heat`, at the right."""
    from matplotlib.cm import ScalarMappable

    bar = made.figure.colorbar(ScalarMappable(cmap=HEAT), ax=made.axes, fraction=0.03, aspect=20, anchor=(0, 0.9))
    bar.set_label(label, fontsize="small")
    bar.ax.tick_params(labelsize="small")


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
