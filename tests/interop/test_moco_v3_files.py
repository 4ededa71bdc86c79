"""MoCo v3's own files, made here by its code's formulas and names: what they hold, and what no name or shape tells."""

import runpy
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

import blocks
from blocks import key, load_weights, tree
from blocks.interop.moco_v3 import other_heads
from blocks.layers.checkpointed import checkpointed
from blocks.layers.compiled import compiled_layers
from blocks.layers.published_heads import moco_v3_predictor, moco_v3_projector
from blocks.objectives.moco_v3 import MoCoV3
from tests.interop.published import HIDDEN, OUT, WIDTH, mlp, moco_v3_file, moco_v3_positions, model, trunk
from tests.interop.timms import assert_same, images, timms


def of_moco_v3(pos_embed="learn"):
    head = moco_v3_projector(WIDTH, HIDDEN, OUT)
    return MoCoV3(model(head, pos_embed=pos_embed), moco_v3_predictor(OUT, HIDDEN))


def test_moco_v3_s_projector_and_predictor_compute_what_they_did():
    file, leaves = moco_v3_file()
    objective = of_moco_v3()
    params, report = load_weights(objective, file)
    projector = mlp(WIDTH, HIDDEN, HIDDEN, OUT, last=nn.BatchNorm1d(OUT, affine=False))
    predictor = mlp(OUT, HIDDEN, OUT, last=nn.BatchNorm1d(OUT, affine=False))
    for module, prefix in ((projector, "module.base_encoder.head."), (predictor, "module.predictor.")):
        module.load_state_dict({n.removeprefix(prefix): t for n, t in leaves.items() if n.startswith(prefix)})
    x = torch.randn(7, WIDTH, generator=torch.Generator().manual_seed(0))
    z = objective.model.head(params["head"], x)
    torch.testing.assert_close(z, projector(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(objective.predictor(params["predictor"], z), predictor(projector(x)), rtol=0, atol=1e-4)
    assert report.layout == "MoCo v3's names in 'state_dict'"
    assert report.fresh == ()
    assert all(n.endswith(("running_mean", "running_var", "num_batches_tracked")) for n in report.left)
    assert len(report.left) == 3 * 5  # of five batch norms
    expected = trunk() | {"pos_embed": moco_v3_positions(4, WIDTH)}
    assert_same({n: t for n, t in params.items() if n not in ("head", "predictor")}, expected)


def test_moco_v3_s_teacher_begins_ours():
    file, leaves = moco_v3_file()
    objective = of_moco_v3()
    params, _ = load_weights(objective, file)
    teacher, report = load_weights(objective.model, file, which="teacher")
    memory = {**objective.remember(params), "teacher": teacher}
    assert tree.flatten(memory["teacher"]).keys() == tree.flatten(objective.remember(params)["teacher"]).keys()
    assert torch.equal(teacher["norm"]["bias"], leaves["module.momentum_encoder.norm.bias"])
    assert torch.equal(teacher["head"]["layers"]["0"]["weight"], leaves["module.momentum_encoder.head.0.weight"])
    assert not any(name.startswith("predictor") for name in report.left)


@pytest.mark.parametrize(("which", "seed"), [("params", 0), ("teacher", 1)])
def test_moco_v3_s_positions_are_taken_as_they_are_and_give_its_features(which, seed):
    file, _ = moco_v3_file()
    theirs = timms()
    theirs.load_state_dict(trunk(seed) | {"pos_embed": moco_v3_positions(4, WIDTH)}, strict=False)
    params, _ = load_weights(model(), file, which=which, head="new")
    expected = theirs.forward_features(images())[:, 0]
    torch.testing.assert_close(model().features(params, images()), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("which", ["params", "teacher"])
def test_moco_v3_s_positions_are_not_those_of_our_sines_and_the_error_says_what_takes_them(which):
    file, _ = moco_v3_file()
    ours = of_moco_v3("sincos").model
    with pytest.raises(ValueError, match=r"pos_embed has the sines of rows first.*pos_embed=\"learn\"") as error:
        load_weights(ours, file, which=which, ignore=["predictor.*"] if which == "params" else [])
    assert "unexpected: pos_embed [1, 17, 12]\n" in str(error.value)


SMALL = {"embed_dim": 384, "depth": 1, "img_size": 56}  # MoCo v3's ViT-S but for its depth and pixels


def small_file(heads=12):
    """(timm's model of so many heads, its leaves with MoCo v3's positions)."""
    theirs = timms(**SMALL, num_heads=heads)
    leaves = {n: t for n, t in theirs.state_dict().items() if not n.startswith("head.")}
    leaves["pos_embed"] = moco_v3_positions(14, 384)
    theirs.load_state_dict(leaves, strict=False)
    return theirs, leaves


@pytest.mark.parametrize(("which", "prefix"), [("params", "base_encoder"), ("teacher", "momentum_encoder")])
@pytest.mark.parametrize("change", [lambda model: model, checkpointed, partial(compiled_layers, backend="eager")])
def test_moco_v3_s_small_vit_has_12_heads_which_no_shape_tells(which, prefix, change):
    theirs, leaves = small_file()
    file = {"state_dict": {f"module.{prefix}.{n}": t for n, t in leaves.items()}}
    with pytest.raises(ValueError, match=r"ViT-S has 12 heads, the model 6, .*vit_small\(num_heads=12\).*base_encoder"):
        load_weights(change(model(**SMALL, num_heads=6)), file, which=which)
    ours = change(model(**SMALL, num_heads=12))
    params, report = load_weights(ours, file, which=which)
    expected = theirs.forward_features(images(56))[:, 0]
    torch.testing.assert_close(ours.features(params, images(56)), expected, rtol=0, atol=1e-4)
    assert report.notes == ()


@pytest.mark.parametrize("name", ["knn", "linear_probe"])
def test_recipes_have_moco_v3_s_small_vit_by_the_name_that_the_error_says(name):
    path = Path(__file__).parents[2] / "recipes" / f"{name}.py"
    made = runpy.run_path(str(path), run_name="recipe")["MODELS"]["vit_small_12_heads"](num_classes=0)
    assert made == blocks.vit_small(0, num_heads=12)
    said = other_heads(blocks.vit_small(0).trunk, tree.flatten(made.init(key(0, device="meta"))))
    assert "--model vit_small_12_heads" in said


def test_a_file_of_moco_v3_s_small_vit_without_its_names_is_told_by_its_positions():
    """Its code for linear probes and its conversion to DeiT's names write such; another's ViT may have had 6 heads."""
    _, leaves = small_file()
    _, report = load_weights(model(**SMALL, num_heads=6), leaves)
    assert len(report.notes) == 1
    assert report.notes[0].startswith("MoCo v3's ViT-S has 12 heads, the model 6")
    assert load_weights(model(**SMALL, num_heads=12), leaves)[1].notes == ()
    leaves["pos_embed"] = leaves["pos_embed"] + 0.01
    assert load_weights(model(**SMALL, num_heads=6), leaves)[1].notes == ()


def test_what_has_not_the_width_of_moco_v3_s_small_vit_may_have_any_heads():
    file, _ = moco_v3_file()
    load_weights(model(num_heads=2), file, head="new")
    _, leaves = small_file()
    names = {f"base_encoder.{n}": t for n, t in leaves.items()}
    with pytest.raises(ValueError, match="of another shape") as error:
        load_weights(model(**SMALL | {"embed_dim": 192}, num_heads=6), names)
    assert "heads" not in str(error.value)
