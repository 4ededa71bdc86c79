"""Pictures in rows, with a few words below each."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from blocks.pictures.figures.mosaic import mosaic, photograph

COLUMNS = 6


def gallery(pictures: Tensor, captions: Sequence[str]) -> Any:
    """A matplotlib Figure of uint8 [n, H, W, 3] and their captions, of up to two lines."""
    tiles = [photograph(picture) for picture in pictures]
    rows = [tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS)]
    made = mosaic(rows, [], [], lines=2)
    for place, caption in enumerate(captions):
        made.caption(place // COLUMNS, place % COLUMNS, caption)
    return made.figure
