"""Tiny contrastive objectives, for their tests."""

from blocks.layers.heads import ProjectionMlp
from blocks.objectives.moco import MoCo
from blocks.objectives.moco_v3 import MoCoV3
from blocks.objectives.simclr import SimCLR
from blocks.optim.schedule import cosine
from blocks.trunks.convit import convit
from blocks.trunks.vit import vit
from tests.objectives.views import TINY

DIM = 6


def head(inputs=8, norm=None, group_size=None):
    return ProjectionMlp(inputs, 10, DIM, norm=norm, group_size=group_size)


def model(make=vit, **knobs):
    own = {"local_up_to_layer": 1} if make is convit else {}
    return make(**TINY, **own, head=head(**knobs))


def moco(make=vit, norm=None, group_size=None, **knobs):
    return MoCo(
        model(make, norm=norm, group_size=group_size), **{"queue_size": 12, "dim": DIM, "momentum": 0.9} | knobs
    )


def moco_v3(make=vit, **knobs):
    return MoCoV3(model(make, norm="batch"), head(DIM, norm="batch"), **knobs)


OBJECTIVES = {
    "moco": moco,
    "moco, convit, batch norm": lambda: moco(convit, "batch", momentum=cosine(0.9, 1.0, 10), queue_size=11),
    "moco, shuffled": lambda: moco(norm="batch", group_size=2, queue_size=5),
    "moco v3": lambda: moco_v3(momentum=cosine(0.9, 1.0, 10)),
    "moco v3, convit": lambda: moco_v3(convit, temperature=1.0),
    "simclr": lambda: SimCLR(model(norm="batch")),
    "simclr, convit": lambda: SimCLR(model(convit), 0.5),
    "simclr, cold": lambda: SimCLR(model(), 0.02),
}
