"""Every objective with a tiny model: the common tests run over this table."""

from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import nn

from blocks import convit, key, vit
from blocks.interop.from_module import from_module
from blocks.objectives.adapted import Adapted
from blocks.objectives.distillation import Distillation
from blocks.objectives.supervised import Supervised
from blocks.random import normal
from blocks.trunks.distilled import distilled

TINY = {"img_size": 8, "patch_size": 4, "num_classes": 5, "embed_dim": 8, "num_heads": 2, "depth": 2}
DROPS = {"drop_path_rate": 0.5, "proj_drop_rate": 0.2, "drop_rate": 0.2}


@attrs.frozen(eq=False)
class Case:
    """An objective to test, and the names of its metrics for integer labels."""

    make: Callable[[], Any]
    metrics: set[str]


def student(**knobs):
    return distilled(convit(**TINY | DROPS | {"local_up_to_layer": 1} | knobs))


def teacher():
    model = vit(**TINY, drop_path_rate=0.9)
    return model, model.init(key(7))


def conv_teacher():
    """An nn.Module left in training mode, which a batch would change."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 5))
        module(torch.randn(16, 3, 8, 8))
    return from_module(module)


def adapted_teacher():
    block, params = conv_teacher()
    return Adapted(block, 8, (0.5,) * 3, (0.5,) * 3), params


DISTILLED = {"agreement", "top1", "teacher_top1"}
TABLE = {
    "supervised": Case(lambda: Supervised(vit(**TINY, **DROPS), 0.1), {"top1"}),
    "distilled, hard": Case(lambda: Distillation(student(), *teacher(), label_smoothing=0.1), DISTILLED),
    "distilled, soft": Case(lambda: Distillation(student(), *conv_teacher(), "soft", 0.3, 3.0), DISTILLED),
    "distilled, one head": Case(
        lambda: Distillation(vit(**TINY, **DROPS), *adapted_teacher(), "soft", tau=2.0), DISTILLED
    ),
}


def batch_of(size=8):
    """Images, labels, and places in the global batch."""
    return {"images": normal(key(1), (size, 3, 8, 8)), "labels": torch.arange(size) % 5, "index": torch.arange(size)}
