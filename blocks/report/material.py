"""What a report looks at, found once and when it is first asked for."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import attrs
import torch

from blocks import tree
from blocks.data.index.index import Index
from blocks.interop.construction import TRUSTED
from blocks.interop.layouts import Which
from blocks.interop.refit import Size, image_size
from blocks.report.answers import Answers, answers
from blocks.report.given_images import given_index
from blocks.report.images import Images, as_evaluated, own_images, spread
from blocks.report.outcome import score_name
from blocks.report.parts import Absent
from blocks.runs.run import Run


@attrs.frozen(eq=False)
class Live:
    """What the program that trains has at hand, and a folder may not tell: the model, and how images are `seen`."""

    model: Any
    seen: Mapping[str, Any] | None = None


@attrs.define(eq=False)
class Material:
    """A run, the runs it is compared with, and which weights and images to look at. What is missing raises Absent."""

    run: Run
    others: Sequence[Run] = ()
    which: Which = "params"
    given: str | os.PathLike | None = None  # images
    live: Live | None = None
    trusted: Sequence[str] = TRUSTED  # of whose code a model may be
    scratch: tempfile.TemporaryDirectory = attrs.field(factory=tempfile.TemporaryDirectory, repr=False)

    @cached_property
    def epochs(self) -> list[dict[str, Any]]:
        """The records of whole epochs, one at least."""
        if not self.run.epochs:
            raise Absent("no epoch is finished yet")
        return list(self.run.epochs)

    @cached_property
    def device(self) -> torch.device:
        """Where the model computes."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def model(self) -> Any:
        """The trained model."""
        return self.live.model if self.live is not None else _found(lambda: self.run.model(self.trusted))

    @cached_property
    def params(self) -> Any:
        """The newest of the weights to look at."""
        return tree.to(_finite(_found(lambda: self.run.params(self.which))), self.device)

    @cached_property
    def fresh_params(self) -> Any:
        """The weights before training."""
        return tree.to(_found(lambda: self.run.fresh_params(self.model)), self.device)

    @cached_property
    def beside(self) -> Any:
        """What the objective trained beside the model, on the CPU."""
        return _found(self.run.objective_params)

    @cached_property
    def seen(self) -> Mapping[str, Any]:
        """How images are seen, as a loader is told: as the run's evaluation did; in a size it does not tell, as the
        model takes them.
        """
        if self.live is not None and self.live.seen:
            return self.live.seen
        told = self.run.images.get("val", {}).get("transform")
        return as_evaluated(self.run, 0 if told else _size_of(self.model))

    @cached_property
    def own(self) -> tuple[Images, Images | None]:
        """The run's training and validation images, None for none of these."""
        return own_images(self.run, self.seen)

    @cached_property
    def given_samples(self) -> Index | None:
        """The images that were given, None for none of these. Raises OSError or ValueError for what is no image."""
        return None if self.given is None else given_index(self.given, self.scratch.name)

    @cached_property
    def images(self) -> Images:
        """The images to look at: those given, else the run's validation images, or its training images."""
        if self.given_samples is None:
            return self.own[1] or self.own[0]
        return spread(self.given_samples, self.seen, f"images of {self.given}")

    @cached_property
    def logits(self) -> Answers:
        """What the model says of the images."""
        return answers(partial(self.model, self.params), self.images, self.device)

    @cached_property
    def features(self) -> Answers:
        """The model's features of the images."""
        return answers(partial(self.model.features, self.params), self.images, self.device)

    @cached_property
    def stand_alone(self) -> bool:
        """Whether the images have no others beside them: they were given, or are all that the run has."""
        return self.given is not None or self.own[1] is None

    @cached_property
    def training_features(self) -> Answers:
        """The model's features of the run's training images."""
        return answers(partial(self.model.features, self.params), self.own[0], self.device)

    @cached_property
    def classifies(self) -> bool:
        """Whether the model was trained with labels, by what the run measured."""
        return (score_name(self.run.epochs) or "").endswith("_top1")


def _size_of(model: Any) -> Size:
    """The size of images that a model is made for; 0 where it does not say."""
    return image_size(model) or 0 if hasattr(model, "trunk") and hasattr(model.trunk, "pos_embed") else 0


def _finite(params: Any) -> Any:
    """The params. Raises Absent for such as show nothing: the run diverged."""
    broken = [name for name, leaf in tree.flatten(params).items() if not leaf.isfinite().all()]
    if broken:
        raise Absent(f"{len(broken)} of the weights' tensors hold NaN or infinity, {broken[0]} first: the run diverged")
    return params


def _found(look: Any) -> Any:
    try:
        return look()
    except (ValueError, OSError) as error:
        raise Absent(str(error)) from error
