"""What a model that was trained with labels gets right and wrong."""

from collections.abc import Iterable, Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from blocks.pictures.counts import confusion
from blocks.pictures.figures.counts import confusion_figure
from blocks.report.answers import Answers
from blocks.report.gallery import gallery
from blocks.report.material import Material
from blocks.report.parts import Absent, Drawing, Part, Remark, Table

SHOWN = 12  # images of each kind
MOST_CLASSES = 40  # in a matrix that can be read
PAIRS = 8  # of classes that are told


def classified(material: Material) -> Answers:
    """The model's logits of images whose labels mean its classes. Raises Absent where they do not."""
    if getattr(material.model, "head", None) is None:
        raise Absent("the model has no classifier of its own")
    found = material.logits
    if material.given is not None and not _same_classes(material, found.values.shape[1]):
        raise Absent(f"the classes of {material.given} are not known to be the run's")
    if found.images.index.num_classes > found.values.shape[1]:
        raise Absent(f"the model has {found.values.shape[1]} outputs, which is fewer than the classes of its images")
    return found


def confusions(material: Material) -> Iterable[Part]:
    """The confusion matrix, and the pairs of classes that are confused most."""
    found = classified(material)
    names = found.images.classes
    names += tuple(_name(names, label) for label in range(len(names), found.values.shape[1]))
    counts = confusion(found.labels, found.values.argmax(1), len(names))
    right = int(counts.diagonal().sum())
    sentence = f"Of {found} {right:,} are classified right ({right / len(found):.2%}): those on the diagonal."
    if len(names) <= MOST_CLASSES:
        yield Drawing("confusion", "Confusion matrix", partial(confusion_figure, counts, names), sentence)
    pairs = [(names[true], names[other], times) for true, other, times in confused(counts)]
    if pairs:
        yield Table(
            "Confused most often", pairs, ("true class", "said to be", "times"), folded=len(names) <= MOST_CLASSES
        )


def confused(counts: Tensor) -> list[tuple[int, int, int]]:
    """(true class, said class, times), the most frequent first, of equal ones the smaller classes: up to PAIRS."""
    wrong = counts - counts.diagonal().diag()
    found = [(i, j, int(wrong[i, j])) for i, j in wrong.nonzero().tolist()]
    return sorted(found, key=lambda pair: -pair[2])[:PAIRS]


def worst(material: Material) -> Iterable[Part]:
    """The mistakes with the highest loss."""
    found = classified(material)
    order = by_loss(found, right=False).flip(0)[:SHOWN]
    sentence = "Of {found} these are classified wrong with the highest loss, the worst first: the true class, what the "
    sentence += "model says instead, and the probability it gives that."
    yield from _shown(found, order, "worst", "Worst mistakes", sentence)


def best(material: Material) -> Iterable[Part]:
    """The right answers with the lowest loss."""
    found = classified(material)
    order = by_loss(found, right=True)[:SHOWN]
    sentence = "Of {found} these are classified right with the lowest loss, the surest first: the class, and the "
    sentence += "probability that the model gives it."
    yield from _shown(found, order, "best", "Surest right answers", sentence)


def by_loss(found: Answers, *, right: bool) -> Tensor:
    """The places among the answers of those that are right, or are not, by rising cross-entropy: int64 [m]."""
    loss = F.cross_entropy(found.values.double(), found.labels, reduction="none")
    places = ((found.values.argmax(1) == found.labels) == right).nonzero().squeeze(1)
    return places[loss[places].argsort(stable=True)]


def _shown(found: Answers, places: Tensor, name: str, title: str, sentence: str) -> Iterable[Part]:
    if not len(places):
        yield Remark(f"{title}: none of {found}.")
        return
    _, pictures = found.images.of(found.samples[places].tolist())
    captions = said(found, places)
    yield Drawing(name, title, partial(gallery, pictures, captions), sentence.format(found=found))


def said(found: Answers, places: Tensor) -> list[str]:
    """Below an image: its class, or its class and what it is taken for, and the probability of what is said."""
    names, captions = found.images.classes, []
    shares, choices = found.values[places].softmax(1).max(1)
    for true, choice, share in zip(found.labels[places].tolist(), choices.tolist(), shares.tolist(), strict=True):
        what = names[true] if choice == true else f"{names[true]}, not {_name(names, choice)}"
        captions.append(f"{what}\n{share:.1%}")
    return captions


def _name(names: Sequence[str], label: int) -> str:
    """An output may have no class among the images'."""
    return names[label] if label < len(names) else f"output {label}"


def _same_classes(material: Material, outputs: int) -> bool:
    """Whether labels of given images mean the run's classes: by name, or by number where the run's are not at hand."""
    given = material.images.classes
    try:
        return given == (material.own[1] or material.own[0]).classes
    except Absent:
        return given == material.run.classes if material.run.classes else len(given) == outputs
