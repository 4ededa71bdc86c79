"""Numbers -> matplotlib figures. Ink and grounds are those of matplotlib's rcParams, so that a page can be dark."""

from blocks.pictures.figures.attention import attention_figure
from blocks.pictures.figures.components import pca_figure
from blocks.pictures.figures.counts import confusion_figure
from blocks.pictures.figures.curves import curves_figure, differing
from blocks.pictures.figures.distance import distance_figure
from blocks.pictures.figures.examples import Gallery, neighbours_figure, prototypes_figure
from blocks.pictures.figures.kernels import kernels_figure
from blocks.pictures.figures.over_training import gates_figure, nonlocality_figure
from blocks.pictures.figures.rates import rates_figure

__all__ = [
    "Gallery",
    "attention_figure",
    "confusion_figure",
    "curves_figure",
    "differing",
    "distance_figure",
    "gates_figure",
    "kernels_figure",
    "neighbours_figure",
    "nonlocality_figure",
    "pca_figure",
    "prototypes_figure",
    "rates_figure",
]
