"""What a trunk's features hold to be alike."""

from collections.abc import Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from blocks.report.answers import Answers
from blocks.report.material import Material
from blocks.report.parts import Absent, Drawing, Part

QUERIES, NEAREST = 6, 8  # rows and images in a row


def neighbours(material: Material) -> Iterable[Part]:
    """Some images, and beside each those whose features are nearest by cosine."""
    found = material.features
    among = found if material.given is not None else material.training_features
    places = torch.arange(min(QUERIES, len(found)))
    near, similar = nearest(found, places, among)
    agree = int((among.labels[near] == found.labels[places, None]).sum())
    yield Drawing("neighbours", "Nearest neighbours", partial(draw, found, places, among, near, similar), _sentence())


def nearest(found: Answers, places: Tensor, among: Answers) -> tuple[Tensor, Tensor]:
    """(places in `among`, cosines) of the NEAREST of each of some answers, itself left out: [q], -> [q, k] each."""
    cosines = F.normalize(found.values[places], dim=1) @ F.normalize(among.values, dim=1).mT
    if among is found:
        cosines[torch.arange(len(places)), places] = -2.0  # below every cosine
    cosines, near = cosines.sort(dim=1, descending=True, stable=True)
    count = min(NEAREST, len(among) - (among is found))
    return near[:, :count], cosines[:, :count]
