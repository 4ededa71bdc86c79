"""A trunk is taken from this library's own pretraining; what stood beside it is left."""

import attrs
import pytest
import torch

import blocks
from blocks import key, tree
from blocks.interop.checkpoints import load_weights
from blocks.layers.published_heads import byol_predictor, byol_projector, swav_head
from blocks.objectives.byol import BYOL
from blocks.objectives.mae import MAE
from blocks.objectives.swav import SwAV
from blocks.optim.adamw import adamw
from blocks.runs import checkpoint
from blocks.train.step import init_state
from blocks.trunks.mae_decoder import mae_decoder
from tests.interop.timms import VIT, assert_same

KNOBS = {name: value for name, value in VIT.items() if name != "num_classes"}
WIDTH = VIT["embed_dim"]


def mae():
    trunk = blocks.vit(**KNOBS, num_classes=0)
    return MAE(trunk, mae_decoder(trunk, embed_dim=8, depth=1, num_heads=2))


OBJECTIVES = {
    "byol": lambda: BYOL(blocks.vit(**KNOBS, head=byol_projector(WIDTH, 12, 6)), byol_predictor(6, 12)),
    "swav": lambda: SwAV(blocks.vit(**KNOBS, head=swav_head(WIDTH, 12, 6)), (blocks.Prototypes(6, 9),)),
    "mae": mae,
}


@pytest.mark.parametrize("head", ["new", "fit"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_pretraining_s_trunk_starts_a_classifier(name, head, tmp_path):
    state = init_state(OBJECTIVES[name](), adamw(1e-3), key(3))
    path = checkpoint.save(tmp_path, state, 7, {})
    params, report = load_weights(blocks.vit(**KNOBS, num_classes=3), path, key=key(0), head=head)
    flat, trained = tree.flatten(params), tree.flatten(state.params)
    assert set(report.fresh) == {"head.weight", "head.bias"}
    assert all(torch.equal(flat[n], trained[n]) for n in flat.keys() - set(report.fresh))
    assert set(report.left) == trained.keys() - flat.keys() | (trained.keys() & set(report.fresh))


def test_the_teacher_s_trunk_can_be_taken(tmp_path):
    state = init_state(OBJECTIVES["byol"](), adamw(1e-3), key(3))
    memory = {**state.memory, "teacher": tree.map(lambda t: t + 1, state.memory["teacher"])}
    path = checkpoint.save(tmp_path, attrs.evolve(state, memory=memory), 7, {})
    params, _ = load_weights(blocks.vit(**KNOBS, num_classes=0), path, which="teacher", head="new")
    assert_same(params, {n: t for n, t in tree.flatten(memory["teacher"]).items() if not n.startswith("head.")})
