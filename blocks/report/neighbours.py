"""What a self-supervised run's features hold to be alike, and what its prototypes stand for."""

from collections.abc import Iterable
from functools import partial

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from blocks import tree
from blocks.collective import world
from blocks.layers.dino_head import DinoHead
from blocks.layers.normed_head import NormedHead
from blocks.pictures.figures.examples import Gallery, neighbours_figure, prototypes_figure
from blocks.pictures.similar import nearest, neighbours, prototype_examples
from blocks.report.answers import Answers
from blocks.report.material import Material
from blocks.report.parts import Absent, Drawing, Part

QUERIES, NEAREST = 6, 8  # rows, and images in one
PROTOTYPES = 8  # rows


def alike(material: Material) -> Iterable[Part]:
    """Some images, and right of each those with the nearest features."""
    found = material.features
    which = torch.arange(min(QUERIES, len(found)))
    if material.stand_alone:
        among, (similarities, places) = found, neighbours(found.values, which, NEAREST)
    else:
        among = material.training_features
        similarities, places = nearest(found.values[which], among.values, NEAREST)
    sentence = f"Right of each image are those with the most similar features, by cosine, among {among}"
    if known := found.images.are_labelled and among.images.are_labelled:
        agree = int((among.labels[places] == found.labels[which, None]).sum())
        sentence += f"; {agree} of these {places.numel()} are of its class, and have a blue frame"
    gallery, first, rows = _side_by_side(found, which, among, places, known)
    draw = partial(neighbours_figure, gallery, first, rows, similarities)
    yield Drawing("neighbours", "Nearest neighbours", draw, f"{sentence}.")


def _side_by_side(
    found: Answers, which: Tensor, among: Answers, places: Tensor, known: bool
) -> tuple[Gallery, Tensor, Tensor]:
    """One gallery of the queries [Q] and then their neighbours [Q, k], labelled where all are, and where both are in
    it.
    """
    shown = [found.samples[which], among.samples[places].flatten()]
    pictures = [part.images.of(samples.tolist())[1] for part, samples in zip((found, among), shown, strict=True)]
    labels = torch.cat((found.labels[which], among.labels[places].flatten()))
    gallery = _gallery(found, torch.cat(pictures), labels) if known else Gallery(torch.cat(pictures))
    return gallery, torch.arange(len(which)), torch.arange(places.numel()).view_as(places) + len(which)


def _gallery(found: Answers, pictures: Tensor, labels: Tensor) -> Gallery:
    return Gallery(pictures, labels, found.images.classes) if found.images.are_labelled else Gallery(pictures)


def prototypes(material: Material) -> Iterable[Part]:
    """The images nearest to the prototypes that most images are nearest to; nothing where there are none."""
    found, own = material.features, prototypes_of(material)
    if own is None:
        return
    directions, embeddings = own
    used = len(cosines(embeddings, directions).argmax(1).unique())
    examples = prototype_examples(directions, embeddings, NEAREST, min(PROTOTYPES, used))
    sentence = (
        f"Prototypes that are the nearest to some of {found}: {used} of {len(directions)}. A row each for those most "
        "used: at the left the share of the images that are nearest to it, then the images nearest to it, by cosine."
    )
    if isinstance(material.model.head, DinoHead):
        sentence += " DINO's centre, which evens out their use in training, is not subtracted."
    samples = found.samples[examples.places]
    _, pictures = found.images.of(samples.flatten().tolist())
    gallery = _gallery(found, pictures, found.labels[examples.places].flatten())
    rows = attrs.evolve(examples, places=torch.arange(samples.numel()).view_as(samples))
    yield Drawing("prototypes", "Prototypes", partial(prototypes_figure, gallery, rows), sentence)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosines of rows [n, E] with rows [K, E]: -> [n, K]."""
    return F.normalize(a, dim=1) @ F.normalize(b, dim=1).T


def prototypes_of(material: Material) -> tuple[Tensor, Tensor] | None:
    """(prototypes [K, E], embeddings [n, E] of the images with features), SwAV's or DINO's; or None."""
    head, features = getattr(material.model, "head", None), material.features.values
    if not isinstance(head, DinoHead) and "prototypes" not in material.beside:
        return None
    if world()[1] > 1 and isinstance(head, NormedHead) and head.running():  # the other processes have left the run
        raise Absent("the head's batch norm waits for all processes; python -m blocks.report shows them afterwards")
    params = tree.to(material.params.get("head", {}), "cpu")
    if isinstance(head, DinoHead):
        return params["last_layer"]["weight_v"], head.bottleneck(params, features)
    return material.beside["prototypes"]["0"]["weight"], head(params, features) if head else features
