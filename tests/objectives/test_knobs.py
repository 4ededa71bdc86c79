"""What an objective cannot work with is refused where it is given, not found as NaN in the loss."""

import math

import attrs
import pytest

from blocks.objectives.barlow_twins import BarlowTwins
from blocks.objectives.byol import BYOL
from blocks.objectives.dino import DINO
from blocks.objectives.ibot import IBOT
from blocks.objectives.linear_probes import LinearProbes
from blocks.objectives.mae import MAE
from blocks.objectives.masking import BlockMasks
from blocks.objectives.moco import MoCo
from blocks.objectives.moco_v3 import MoCoV3
from blocks.objectives.monitored import Monitored
from blocks.objectives.simclr import SimCLR
from blocks.objectives.supervised import Supervised
from blocks.objectives.swav import SwAV
from blocks.objectives.vicreg import VICReg
from blocks.optim.schedule import constant, cosine, linear
from blocks.trunks.mae_decoder import mae_decoder
from tests.objectives.ssl_table import TRUNKS, dino_head, headed, mlp, prototypes

NAN = math.nan


def body():
    return TRUNKS["vit"]()


def make(kind, **knobs):
    """An objective of a tiny model, with what it must be given."""
    head = dino_head() if kind in (DINO, IBOT) else None if kind is MAE else mlp()
    own = {
        BYOL: lambda: {"predictor": mlp(6)},
        MoCoV3: lambda: {"predictor": mlp(6)},
        MoCo: lambda: {"queue_size": 4, "dim": 6},
        SwAV: lambda: {"prototypes": prototypes(5)},
        MAE: lambda: {"decoder": mae_decoder(body(), embed_dim=8, depth=1, num_heads=2)},
    }
    return kind(headed(body(), head), **{**own.get(kind, dict)(), **knobs})


MOMENTA = [(kind, "momentum") for kind in (DINO, IBOT, BYOL, MoCo, MoCoV3)] + [(DINO, "centre_momentum")]
TEMPERATURES = [(kind, "temperature") for kind in (MoCo, MoCoV3, SimCLR, SwAV)]
TEMPERATURES += [(DINO, "student_temp"), (DINO, "teacher_temp"), (IBOT, "patch_temp")]
SCHEDULED = ("teacher_temp", "patch_temp")


@pytest.mark.parametrize(("kind", "name"), MOMENTA)
@pytest.mark.parametrize("value", [-0.1, 2, NAN, math.inf, "high", None])
def test_a_momentum_out_of_0_to_1_is_refused(kind, name, value):
    with pytest.raises(ValueError, match=rf"{name} .* is not in \[0, 1\]"):
        make(kind, **{name: value})


@pytest.mark.parametrize(("kind", "name"), [case for case in MOMENTA if case[1] == "momentum"])
@pytest.mark.parametrize("schedule", [cosine(2.0, 1.0, 9), linear(0.9, 1.1, 9), constant(NAN)])
def test_a_schedule_of_the_momentum_is_refused_by_its_ends(kind, name, schedule):
    with pytest.raises(ValueError, match=r"momentum (2\.0|1\.1|nan) of .* is not in \[0, 1\]"):
        make(kind, momentum=schedule)
    make(kind, momentum=cosine(0.0, 1.0, 9))
    make(kind, momentum=lambda step: 0.5)  # of which nothing is known but where it begins
    with pytest.raises(ValueError, match=r"momentum 2\.0 of OwnSchedule.* is not in \[0, 1\]"):
        make(kind, momentum=lambda step: 2.0)


def test_the_centre_s_momentum_is_a_number():
    with pytest.raises(ValueError, match=r"centre_momentum Cosine.* is a schedule, and it has none; use a number"):
        make(DINO, centre_momentum=cosine(0.9, 1.0, 9))


@pytest.mark.parametrize(("kind", "name"), TEMPERATURES)
@pytest.mark.parametrize("value", [-1, 0, NAN, math.inf, "warm", None, lambda step: 0.0])
def test_a_temperature_that_is_not_above_0_is_refused(kind, name, value):
    with pytest.raises(ValueError, match=f"{name} .* is not a temperature; use a number above 0"):
        make(kind, **{name: value})
    schedule = linear(0.1, 0.0, 3)
    with pytest.raises(ValueError, match=f"{name} .*end=0.0.* is not a temperature"):
        make(kind, **{name: schedule})


@pytest.mark.parametrize(
    ("kind", "knobs", "message"),
    [
        (MoCo, {"queue_size": 0}, "queue_size 0 is not a count; use a whole number, 1 or more"),
        (MoCo, {"queue_size": 2.5}, "queue_size 2.5 is not a count"),
        (MoCo, {"dim": -1}, "dim -1"),
        (SwAV, {"epsilon": 0}, "epsilon 0 is not above 0"),
        (SwAV, {"iterations": 0}, "iterations 0 is not a count"),
        (SwAV, {"queue_length": -1}, "queue_length -1 is not a count; use a whole number, or 0 for none"),
        (SwAV, {"queue_start": 0.5}, "queue_start 0.5"),
        (SwAV, {"hard_steps": -1}, "hard_steps -1"),
        (SwAV, {"prototypes": ()}, "prototypes"),
        (SwAV, {"crops_for_assign": (0, 0)}, "crops_for_assign"),
        (BarlowTwins, {"off_diagonal": NAN}, "off_diagonal nan must not be negative"),
        (BarlowTwins, {"scale": 0}, "scale 0 is not above 0"),
        (VICReg, {"covariance": -1}, "covariance -1 must not be negative"),
        (IBOT, {"patch_weight": -1}, "patch_weight -1 must not be negative"),
        (MAE, {"mask_ratio": NAN}, "mask_ratio nan"),
        (MAE, {"mask_ratio": "most"}, "mask_ratio 'most'"),
    ],
)
def test_what_is_no_such_number_is_refused(kind, knobs, message):
    with pytest.raises(ValueError, match=message):
        make(kind, **knobs)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"share": NAN}, "share nan"),
        ({"share": 1.5}, "share 1.5 masks no crop, or more than all"),
        ({"ratio": (0.1,)}, r"ratio \(0.1,\)"),
        ({"ratio": 0.3}, "ratio 0.3"),
        ({"aspect": (1.0, NAN)}, "aspect"),
        ({"aspect": (0.3, 1, 2)}, "aspect"),
    ],
)
def test_masks_of_no_share_are_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        BlockMasks(**knobs)


def test_probes_and_smoothing_that_cannot_be_are_refused():
    for smoothing in (-0.1, 1, NAN, "much"):
        with pytest.raises(ValueError, match=r"label_smoothing .* is not in \[0, 1\)"):
            Supervised(body(), smoothing)
    for knobs in ({"num_classes": 1}, {"num_classes": 3, "lr": NAN}, {"num_classes": 3, "momentum": NAN}):
        with pytest.raises(ValueError, match="an online probe wants"):
            Monitored(make(SimCLR), **knobs)
    with pytest.raises(ValueError, match=r"heads 0: .* give one rate or more \(--lrs 0.1 1\)"):
        LinearProbes(body(), 3, heads=0)
    with pytest.raises(ValueError, match="num_classes 1"):
        LinearProbes(body(), 1)
    assert attrs.evolve(LinearProbes(body(), 2), heads=2).heads == 2
