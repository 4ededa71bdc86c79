"""Rows of images: one and those most like it, or those nearest to a prototype."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
from torch import Tensor

from blocks.pictures.figures.mosaic import mosaic, photograph
from blocks.pictures.figures.sheet import SERIES
from blocks.pictures.similar import Examples

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAME, OTHER = SERIES[0], SERIES[3]  # frames: of the query's class (blue), of another (vermilion)


@attrs.frozen(eq=False)
class Gallery:
    """Pictures uint8 [n, H, W, 3], their labels [n] and the classes' names, where these are known."""

    pictures: Tensor
    labels: Tensor | None = None
    classes: Sequence[str] | None = None

    def label(self, place: int) -> str | None:
        """The class of a picture, by name or number."""
        if self.labels is None:
            return None
        number = int(self.labels[place])
        return str(number) if self.classes is None else self.classes[number]

    def caption(self, place: int, similarity: float | None = None) -> str:
        """Its class and its cosine, a line each."""
        label = self.label(place)
        lines = ([] if label is None else [label[:16]]) + ([] if similarity is None else [f"{similarity:.2f}"])
        return "\n".join(lines)


def neighbours_figure(gallery: Gallery, which: Tensor, places: Tensor, similarities: Tensor) -> Figure:
    """The pictures at `which` [Q] and right of each its neighbours: places [Q, k], cosines [Q, k].

    Below each stands its class, and a neighbour's cosine. Neighbours of the same class have a blue frame, the others an
    orange one; none without labels.
    """
    near = [list(zip(*row, strict=True)) for row in zip(places.tolist(), similarities.tolist(), strict=True)]
    tiles = [
        [photograph(gallery.pictures[i]) for i in (query, *(place for place, _ in row))]
        for query, row in zip(which.tolist(), near, strict=True)
    ]
    made = mosaic(tiles, [], ["image", *map(str, range(1, places.shape[1] + 1))], lines=2)
    for i, (query, row) in enumerate(zip(which.tolist(), near, strict=True)):
        made.caption(i, 0, gallery.caption(query))
        for j, (place, similarity) in enumerate(row, 1):
            made.caption(i, j, gallery.caption(place, similarity))
            if gallery.labels is not None:
                made.frame(i, j, colour=SAME if gallery.label(place) == gallery.label(query) else OTHER)
    return made.figure


def prototypes_figure(gallery: Gallery, examples: Examples) -> Figure:
    """The pictures nearest to each prototype, a row each.

    At the left stand its number and the share of all images of which it is the nearest; below a picture its class and
    its cosine.
    """
    tiles = [[photograph(gallery.pictures[i]) for i in row] for row in examples.places.tolist()]
    names = zip(examples.prototypes.tolist(), examples.shares.tolist(), strict=True)
    columns = list(map(str, range(1, examples.places.shape[1] + 1)))
    made = mosaic(tiles, [f"no. {number}\n{share:.1%}" for number, share in names], columns, lines=2)
    for i, row in enumerate(zip(examples.places.tolist(), examples.similarities.tolist(), strict=True)):
        for j, (place, similarity) in enumerate(zip(*row, strict=True)):
            made.caption(i, j, gallery.caption(place, similarity))
    return made.figure
