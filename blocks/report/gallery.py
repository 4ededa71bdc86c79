"""Pictures in rows, with a few words below each."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

COLUMNS, SIDE = 6, 1.25  # pictures in a row, inches of one


def gallery(pictures: Tensor, captions: Sequence[str]) -> Any:
    """A matplotlib Figure of uint8 [n, H, W, 3] and their captions, of up to two lines."""
    from matplotlib.figure import Figure  # an extra

    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(columns * SIDE, rows * (SIDE + 0.4)), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for place in axes:
        place.set_axis_off()
    for place, picture, caption in zip(axes, pictures, captions, strict=False):
        place.imshow(picture.numpy(), interpolation="nearest")
        place.set_title(caption, y=0, va="top", fontsize="small")
    return figure
