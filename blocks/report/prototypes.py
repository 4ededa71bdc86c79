"""The images that a self-supervised run's prototypes stand for: SwAV's, and the outputs of DINO's head."""

from collections.abc import Iterable
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from blocks import tree
from blocks.collective import world
from blocks.layers.dino_head import DinoHead
from blocks.report.answers import Answers
from blocks.report.material import Material
from blocks.report.parts import Absent, Part

SHOWN, NEAREST = 8, 8  # prototypes, and images of each


def scores(material: Material) -> Tensor:
    """How near each image, of those with features, is to each prototype: [n, K], higher is nearer."""
    head = getattr(material.model, "head", None)
    if not isinstance(head, DinoHead) and "prototypes" not in _beside(material):
        raise Absent("this objective has no prototypes")
    if world()[1] > 1:  # a head's batch norm would wait for the other processes
        raise Absent("the head's batch norm wants all processes; python -m blocks.report shows them later")
    embeddings = head(tree.to(material.params["head"], "cpu"), material.features.values)
    if isinstance(head, DinoHead):
        return embeddings
    weight = tree.to(_beside(material)["prototypes"]["0"]["weight"], "cpu")
    return F.normalize(embeddings, dim=1) @ F.normalize(weight, dim=1).mT
