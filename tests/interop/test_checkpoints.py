"""Weights of others: wherever a file has them, they are read exactly."""

import argparse

import attrs
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

import blocks
from blocks import key, to_module, tree
from blocks.interop.checkpoints import load_weights
from blocks.interop.from_module import from_module
from blocks.objectives.linear_probes import LinearProbes
from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.optim.sgd import sgd
from blocks.runs import checkpoint
from blocks.train.step import init_state
from tests.interop.modules import small
from tests.interop.timms import CONVIT, VIT, assert_same, images, timms, timms_convit

BOXES = {
    "bare, as ConViT's and timm's": lambda leaves: leaves,
    "DeiT's download": lambda leaves: {"model": leaves},
    "DeiT's and ConViT's own run": lambda leaves: {
        "model": leaves,
        "optimizer": {"state": {}},
        "epoch": 3,
        "model_ema": None,
        "args": argparse.Namespace(lr=1e-3),
    },
    "timm's run": lambda leaves: {"state_dict": leaves, "epoch": 3, "arch": "vit", "metric": 0.5},
    "under DDP and compiled": lambda leaves: {"model": {f"module._orig_mod.{n}": t for n, t in leaves.items()}},
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("box", BOXES)
def test_a_file_with_timm_s_names_is_read_exactly_wherever_they_lie(box, legacy, tmp_path):
    theirs = timms_convit()
    path = tmp_path / "model.pth"
    torch.save(BOXES[box](theirs.state_dict()), path, _use_new_zipfile_serialization=not legacy)
    model = blocks.convit(**CONVIT)
    params, report = load_weights(model, path)
    assert_same(params, dict(theirs.state_dict()))
    assert torch.allclose(model(params, images()), theirs(images()), atol=1e-5)
    assert (report.resized, report.fresh, report.left, report.notes) == ((), (), (), ())
    assert report.read == tuple(tree.flatten(params))


def test_a_safetensors_file_is_read_exactly(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    weights = timms().state_dict()
    save_file(weights, tmp_path / "model.safetensors")
    assert_same(load_weights(blocks.vit(**VIT), tmp_path / "model.safetensors")[0], dict(weights))


def test_a_module_s_own_leaves_are_read_whole_numbers_too():
    module = small()
    block, _ = from_module(small())
    params, report = load_weights(block, module.state_dict())
    assert_same(params, dict(module.state_dict()))
    assert report.left == ()


@pytest.mark.parametrize(("params_in", "average_in"), [("model", "model_ema"), ("state_dict", "state_dict_ema")])
def test_the_average_beside_the_weights_can_be_taken(params_in, average_in):
    weights, average = timms(seed=0).state_dict(), timms(seed=1).state_dict()
    content = {params_in: weights, average_in: average}
    assert_same(load_weights(blocks.vit(**VIT), content)[0], dict(weights))
    assert_same(load_weights(blocks.vit(**VIT), content, which="ema")[0], dict(average))
    with pytest.raises(ValueError, match="which='ema': not in this checkpoint, whose entries are"):
        load_weights(blocks.vit(**VIT), {params_in: weights}, which="ema")
    with pytest.raises(ValueError, match="a bare state_dict has params alone"):
        load_weights(blocks.vit(**VIT), weights, which="ema")


def test_our_own_checkpoint_gives_its_params_or_their_average(tmp_path):
    model = blocks.convit(**CONVIT)
    state = init_state(Supervised(model), adamw(1e-3), key(3), ema=True)
    state = attrs.evolve(state, ema=tree.map(lambda t: t + 1, state.params))
    path = checkpoint.save(tmp_path, state, 7, {})
    params, report = load_weights(model, str(path))
    assert_same(params, tree.flatten(state.params))
    assert_same(load_weights(model, path, which="ema")[0], tree.flatten(state.ema))
    assert report.layout == "this library's"
    with pytest.raises(ValueError, match="which='teacher': this checkpoint has none"):
        load_weights(model, path, which="teacher")


@pytest.mark.parametrize("head", ["new", "fit"])
def test_a_linear_probe_s_checkpoint_gives_its_trunk(head, tmp_path):
    probes = LinearProbes(blocks.vit(**VIT | {"num_classes": 0}), 3, heads=2)
    path = checkpoint.save(tmp_path, init_state(probes, sgd(0.1), key(3)), 7, {})
    model = blocks.vit(**VIT)
    params, report = load_weights(model, path, key=key(2), head=head)
    trunk = {n: t for n, t in tree.flatten(params).items() if not n.startswith("head.")}
    saved = checkpoint.read(path)[0]
    assert all(torch.equal(leaf, saved[f"params.{name}"]) for name, leaf in trunk.items())
    assert {"features.mean", "features.std", "heads.0.weight"} <= set(report.left)


def test_params_share_nothing_with_the_file_or_dictionary():
    weights = timms().state_dict()
    params, _ = load_weights(blocks.vit(**VIT), weights)
    params["head"]["bias"].add_(1)
    assert not torch.equal(params["head"]["bias"], weights["head.bias"])


def test_params_have_no_part_in_what_was_trained():
    """Parameters by name, not a state_dict: a copy of one still hands its gradient on."""
    params, _ = load_weights(blocks.vit(**VIT | {"img_size": 12}), dict(timms().named_parameters()))
    assert not any(leaf.requires_grad for leaf in tree.leaves(params))


def test_params_are_contiguous_float32_whatever_the_file_has():
    half = {n: t.half() for n, t in timms().state_dict().items()}
    half["head.weight"] = half["head.weight"].T.contiguous().T
    params, _ = load_weights(blocks.vit(**VIT), half)
    assert_same(params, {n: t.float() for n, t in half.items()})
    assert all(t.is_contiguous() for t in tree.leaves(params))


def test_either_encoder_of_moco_v3_can_be_taken():
    query, momentum = ({n: t for n, t in timms(seed=i).state_dict().items() if n[:5] != "head."} for i in (0, 1))
    names = {f"module.base_encoder.{n}": t for n, t in query.items()}
    names |= {f"module.momentum_encoder.{n}": t for n, t in momentum.items()}
    names |= {f"module.base_encoder.head.{i}.weight": torch.ones(3) for i in (0, 1)}
    names |= {"module.predictor.0.weight": torch.ones(3)}
    model = blocks.vit(**VIT | {"num_classes": 0})
    params, report = load_weights(model, {"state_dict": names, "epoch": 300}, head="new")
    assert_same(params, query)
    assert report.left == ("head.0.weight", "head.1.weight", "predictor.0.weight")
    assert_same(load_weights(model, {"state_dict": names, "epoch": 300}, which="teacher")[0], momentum)
    with pytest.raises(ValueError, match="begins with momentum_encoder or backbone"):
        load_weights(model, {"state_dict": query}, which="teacher")


@pytest.mark.parametrize(("which", "prefix"), [("params", "module.backbone."), ("teacher", "backbone.")])
def test_student_and_teacher_of_dino_can_be_taken(which, prefix):
    weights = {n: t for n, t in timms().state_dict().items() if n[:5] != "head."}
    names = {prefix + n: t for n, t in weights.items()}
    names |= {prefix.replace("backbone", "head") + "mlp.0.weight": torch.ones(3)}
    content = {"student" if which == "params" else "teacher": names, "epoch": 3}
    params, report = load_weights(blocks.vit(**VIT | {"num_classes": 0}), content, which=which, head="new")
    assert_same(params, weights)
    assert report.left == ("head.mlp.0.weight",)


def test_an_average_of_torch_s_is_read_without_its_count():
    model = blocks.vit(**VIT)
    average = AveragedModel(to_module(model, model.init(key(0))))
    params, report = load_weights(model, average.state_dict())
    assert_same(params, average.module.state_dict())
    assert report.left == ("n_averaged",)
