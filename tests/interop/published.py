"""What is made here in place of published pretraining's files, of which none is at hand."""

from itertools import pairwise

import torch
from torch import nn

import blocks
from tests.interop.timms import VIT, images, timms

WIDTH, HIDDEN, OUT = VIT["embed_dim"], 10, 6


def trunk(seed=0):
    return {n: t for n, t in timms(seed=seed).state_dict().items() if not n.startswith("head.")}


def shaken(module, seed=5):
    """The module with no leaf left at 0 or 1."""
    draw = torch.Generator().manual_seed(seed)
    for leaf in [*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())]:
        leaf.data.add_(0.2 * torch.rand(leaf.shape, generator=draw))
    return module


def named(prefix, module):
    return {f"{prefix}{name}": leaf for name, leaf in module.state_dict().items()}


def model(head=None, **knobs):
    return blocks.vit(**VIT | {"num_classes": 0} | knobs, head=head)


def features(objective, params):
    return objective.model.features(params, images())


def mlp(*widths, bias=False, last=None):
    """Linear, batch norm and ReLU in turn, as MoCo v3's `_build_mlp`; with `last`, the norm at the end."""
    layers = []
    for i, (a, b) in enumerate(pairwise(widths)):
        hidden = i < len(widths) - 2
        layers += [nn.Linear(a, b, bias=bias)]
        layers += [nn.BatchNorm1d(b), nn.ReLU()] if hidden else [last] if last else []
    return nn.Sequential(*layers)


def moco_v3_positions(side, width):
    """[1, 1 + side * side, D]: the mesh of (columns, rows) is indexed "ij", so the first half counts rows of tokens."""
    mesh = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    frequencies = 1 / 10000 ** (torch.arange(width // 4) / (width // 4))
    angles = [torch.outer(places.flatten(), frequencies) for places in mesh]
    patches = torch.cat([wave(a) for a in angles for wave in (torch.sin, torch.cos)], dim=1)
    return torch.cat((torch.zeros(1, width), patches))[None]


def moco_v3_file(seed=0):
    projector = shaken(mlp(WIDTH, HIDDEN, HIDDEN, OUT, last=nn.BatchNorm1d(OUT, affine=False)), seed)
    predictor = shaken(mlp(OUT, HIDDEN, OUT, last=nn.BatchNorm1d(OUT, affine=False)), seed + 1)
    sines = moco_v3_positions(4, WIDTH)
    leaves = {f"module.base_encoder.{n}": t for n, t in (trunk() | {"pos_embed": sines}).items()}
    leaves |= {f"module.momentum_encoder.{n}": t for n, t in (trunk(1) | {"pos_embed": sines}).items()}
    leaves |= named("module.base_encoder.head.", projector) | named("module.predictor.", predictor)
    leaves |= named("module.momentum_encoder.head.", shaken(projector, 9))
    return {"epoch": 300, "arch": "vit_small", "state_dict": leaves, "optimizer": {}}, leaves
