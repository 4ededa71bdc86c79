"""torchvision's classifiers as blocks: convolutional teachers, for instance."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision.models
from torch import nn

from blocks.block import Params
from blocks.interop.from_module import ModuleBlock, from_module

NAMES = tuple(torchvision.models.list_models(torchvision.models))
WITH_NORM_LAYER = ("resne", "wide_resnet", "convnext")  # begin the names of those that take a norm in place of theirs
GROUPS = 16


def torchvision_model(name: str, num_classes: int, weights: str | Path = "") -> tuple[ModuleBlock, Params | None]:
    """(block, params) of a classifier of `torchvision.models`, with the state_dict in the file `weights`.

    Without a file (block, None), to be trained: with group norm in place of batch norm, as a block's call keeps no
    statistics. Raises ValueError for an unknown name, a model that cannot be trained so, and weights of another one.
    """
    if name not in NAMES:
        raise ValueError(f"torchvision.models has no {name!r}; list_models() names all, resnet50 is one")
    make: Any = partial(getattr(torchvision.models, name), num_classes=num_classes)
    if weights:
        return from_module(_with_weights(make(), name, weights))
    if not name.startswith(WITH_NORM_LAYER):
        raise ValueError(f"{name} cannot be trained here, as a ResNet can: it has no norm_layer; give its weights")
    return ModuleBlock(partial(make, norm_layer=partial(nn.GroupNorm, GROUPS))), None


def _with_weights(module: nn.Module, name: str, weights: str | Path) -> nn.Module:
    try:
        module.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except RuntimeError as error:
        raise ValueError(f"{weights} holds no {name} of so many classes: {error}") from None
    return module
