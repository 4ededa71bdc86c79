"""Every self-supervised objective with every kind of trunk, tiny: the common tests run over this table."""

from collections.abc import Callable

import attrs
import torch

from blocks import convit, distilled, key, vit
from blocks.layers.dino_head import DinoHead
from blocks.layers.heads import ProjectionMlp
from blocks.layers.weight_norm import Prototypes
from blocks.objectives.barlow_twins import BarlowTwins
from blocks.objectives.byol import BYOL
from blocks.objectives.dino import DINO
from blocks.objectives.ibot import IBOT
from blocks.objectives.mae import MAE
from blocks.objectives.masking import BlockMasks
from blocks.objectives.moco import MoCo
from blocks.objectives.moco_v3 import MoCoV3
from blocks.objectives.monitored import Monitored
from blocks.objectives.self_supervised import SelfSupervised
from blocks.objectives.simclr import SimCLR
from blocks.objectives.swav import SwAV
from blocks.objectives.vicreg import VICReg
from blocks.optim.schedule import cosine, linear
from blocks.random import normal
from blocks.trunks.mae_decoder import mae_decoder

TINY = {"img_size": 16, "patch_size": 4, "num_classes": 0, "embed_dim": 8, "num_heads": 2, "depth": 2}
DROPS = {"drop_path_rate": 0.5}
TRUNKS = {
    "vit": lambda: vit(**TINY, **DROPS),
    "vit, mean of sines": lambda: vit(**TINY, **DROPS, global_pool="avg", fc_norm=False, pos_embed="sincos"),
    "deit": lambda: distilled(vit(**TINY, **DROPS)),
    "convit": lambda: convit(**TINY, **DROPS, local_up_to_layer=1),
}


def mlp(in_features=8, norm="batch", **knobs):
    return ProjectionMlp(in_features, 10, 6, norm=norm, **knobs)


def dino_head(logits=7):
    return DinoHead(8, logits, 10, 6)


def headed(body, head):
    return attrs.evolve(body, head=head)


@attrs.frozen(eq=False)
class Case:
    """How an objective is made of a model without head, and the views it is given: large ones, small ones."""

    make: Callable[..., SelfSupervised | Monitored]
    large: int = 2
    small: int = 0


def prototypes(*counts):
    return tuple(Prototypes(6, count) for count in counts)


def moco(body, momentum=0.9, **head):
    return MoCo(headed(body, mlp(**head)), queue_size=12, dim=6, momentum=momentum)


TABLE = {
    "moco": Case(lambda body: moco(body, norm=None)),
    "moco, shuffled, small crops": Case(lambda body: moco(body, cosine(0.9, 1.0, 9), group_size=2), small=2),
    "moco v3": Case(lambda body: MoCoV3(headed(body, mlp()), mlp(6), momentum=cosine(0.9, 1.0, 9))),
    "simclr": Case(lambda body: SimCLR(headed(body, mlp(last_norm="batch")))),
    "simclr, small crops": Case(lambda body: SimCLR(headed(body, mlp())), small=2),
    "swav": Case(lambda body: SwAV(headed(body, mlp()), prototypes(5)), small=2),
    "swav, queue": Case(
        lambda body: SwAV(headed(body, mlp()), prototypes(5, 7), queue_length=8, queue_start=1, hard_steps=1)
    ),
    "dino": Case(
        lambda body: DINO(headed(body, dino_head()), cosine(0.9, 1.0, 9), teacher_temp=linear(0.04, 0.07, 3)), small=2
    ),
    "dino, batch norm": Case(lambda body: DINO(headed(body, DinoHead(8, 7, 10, 6, norm="batch"))), small=2),
    "ibot": Case(lambda body: IBOT(headed(body, dino_head()), masks=BlockMasks(1.0, (0.3, 0.5))), small=1),
    "ibot, two heads": Case(lambda body: IBOT(headed(body, dino_head()), patch_head=dino_head(5), patch_temp=0.05)),
    "dinov2": Case(
        lambda body: IBOT(
            headed(body, dino_head()),
            patch_head=dino_head(5),
            masks=BlockMasks(1.0, (0.3, 0.5)),
            centring="sinkhorn",
            koleo_weight=0.1,
        ),
        small=1,
    ),
    "byol": Case(lambda body: BYOL(headed(body, mlp()), mlp(6), 0.9)),
    "barlow twins": Case(lambda body: BarlowTwins(headed(body, mlp(last_bias=False)))),
    "vicreg": Case(lambda body: VICReg(headed(body, mlp(last_bias=False)))),
    "mae": Case(lambda body: MAE(body, mae_decoder(body, embed_dim=8, depth=1, num_heads=2), norm_pix=False), large=1),
    "watched": Case(lambda body: Monitored(BYOL(headed(body, mlp()), mlp(6), 0.9), num_classes=5)),
}


def objective_of(name, trunk="convit"):
    return TABLE[name].make(TRUNKS[trunk]())


def batch_of(name, size=8, dtype=torch.float32):
    """Crops of 16 x 16 and 8 x 8 as the case wants them, labels, and places in the global batch."""
    case = TABLE[name]
    batch = {"crops.0": normal(key(1), (size, case.large, 3, 16, 16)).to(dtype)}
    if case.small:
        batch["crops.1"] = normal(key(2), (size, case.small, 3, 8, 8)).to(dtype)
    return {**batch, "labels": torch.arange(size) % 5, "index": torch.arange(size)}
