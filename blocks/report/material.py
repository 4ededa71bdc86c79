"""What a report looks at, found once and when it is first asked for."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import attrs
import torch

from blocks import tree
from blocks.interop.layouts import Which
from blocks.interop.refit import image_size
from blocks.report.answers import Answers, answers
from blocks.report.given_images import given_index
from blocks.report.images import Images, own_images, spread, transform_of
from blocks.report.outcome import score_name
from blocks.report.parts import Absent
from blocks.runs.run import Run


@attrs.define(eq=False)
class Material:
    """A run, the runs it is compared with, and which weights and images to look at. What is missing raises Absent."""

    run: Run
    others: Sequence[Run] = ()
    which: Which = "params"
    given: str | os.PathLike | None = None  # images
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
        return _found(self.run.model)

    @cached_property
    def params(self) -> Any:
        """The newest of the weights to look at."""
        return tree.to(_finite(_found(lambda: self.run.params(self.which))), self.device)

    @cached_property
    def fresh_params(self) -> Any:
        """The weights before training."""
        return tree.to(_found(self.run.fresh_params), self.device)

    @cached_property
    def beside(self) -> Any:
        """What the objective trained beside the model, on the CPU."""
        return _found(self.run.objective_params)

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The run's settings; an img_size of 0, "as the weights' run had it", is the model's."""
        settings = self.run.settings
        return {**settings, "img_size": image_size(self.model)} if settings.get("img_size") == 0 else settings

    @cached_property
    def own(self) -> tuple[Images, Images | None]:
        """The run's training and validation images, None for none of these."""
        return own_images(self.settings)

    @cached_property
    def images(self) -> Images:
        """The images to look at: those given, else the run's validation images, or its training images."""
        if self.given is None:
            return self.own[1] or self.own[0]
        name = f"images of {os.fspath(self.given)}"
        return spread(given_index(self.given, self.scratch.name), transform_of(self.settings), name)

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
