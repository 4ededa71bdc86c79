"""What a trunk looks at: attention on an image, how far heads look, what patches have in common."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from blocks.pictures.attention import attention_maps, shows_attention
from blocks.pictures.components import patch_pca
from blocks.pictures.figures.attention import attention_figure
from blocks.pictures.figures.components import pca_figure
from blocks.pictures.figures.distance import distance_figure
from blocks.pictures.locality import attention_distance
from blocks.report.material import Material
from blocks.report.parts import Drawing, Part

MEASURED, COLOURED = 16, 8  # images: whose attention is averaged, whose patches are shown


def trunk_of(material: Material) -> Any:
    """The model's trunk, or the model where it has none."""
    return getattr(material.model, "trunk", material.model)


def looks(material: Material) -> bool:
    """Whether there is attention to look at."""
    return shows_attention(trunk_of(material))


def attention(material: Material) -> Iterable[Part]:
    """Where the class token and the patch in the middle look, in the first image."""
    images, pictures = material.images.of([0])
    images = images.to(material.device)
    trunk = trunk_of(material)
    grid, maps = trunk.grid(images), attention_maps(material.model, material.params, images)
    maps = {name: weights[0].cpu() for name, weights in maps.items()}
    tokens = grid[0] * grid[1]
    which = f"the image is one of the {material.images.name}"
    with_class = [name for name, weights in maps.items() if weights.shape[-1] > tokens]
    if with_class:
        where = "" if len(with_class) == len(maps) else f" It takes part in {', '.join(with_class)} alone."
        sentence = f"Where the class token looks, by layer (rows) and head (columns); {which}.{where}"
        yield Drawing(
            "attention-class",
            "Attention of the class token",
            partial(attention_figure, pictures[0], maps, grid),
            sentence,
        )
    middle = grid[0] // 2, grid[1] // 2
    draw = partial(attention_figure, pictures[0], maps, grid, middle)
    sentence = f"Where one patch, framed in the image, looks, by layer (rows) and head (columns); {which}."
    yield Drawing("attention-patch", "Attention of a patch in the middle", draw, sentence)


def distance(material: Material) -> Iterable[Part]:
    """How far heads look, before and after training."""
    count = min(MEASURED, len(material.images))
    images = material.images.of(range(count))[0].to(material.device)
    after = attention_distance(material.model, material.params, images)
    before = attention_distance(material.model, material.fresh_params, images)
    trunk = trunk_of(material)
    draw = partial(
        distance_figure,
        {"before training": before, "after training": after},
        trunk.grid(images),
        trunk.patch_embed.patch_size,
    )
    means = after.mean(1)
    least, most = int(means.argmin()), int(means.argmax())
    sentence = (
        f"How far from a patch the patches are that it attends to, on average over {count} of the "
        f"{material.images.name}; after training layer {least} looks nearest ({means[least]:.2f} patches) and layer "
        f"{most} farthest ({means[most]:.2f})."
    )
    yield Drawing("attention-distance", "Attention distance", draw, sentence)


def patches(material: Material) -> Iterable[Part]:
    """The principal components of patch tokens as colours."""
    count = min(COLOURED, len(material.images))
    images, pictures = material.images.of(range(count))
    pca = patch_pca(material.model, material.params, images.to(material.device))
    sentence = (
        f"The trunk's patch tokens, coloured by their first three principal components over these {count} "
        f"of the {material.images.name} ({float(pca.explained.sum()):.0%} of the variance): like colours, like tokens."
    )
    yield Drawing("patch-pca", "Principal components of patch tokens", partial(pca_figure, pictures, pca), sentence)
