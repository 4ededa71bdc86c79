"""What leaves for another library, or for a file, comes back bit by bit."""

import pytest
import torch

import blocks
from blocks import from_timm, key, load_weights, to_timm, to_vissl, tree
from blocks.interop.vissl import with_eps
from blocks.trunks.distilled import distilled
from tests.interop.timms import CONVIT, VIT, assert_same, images, saved, timms, timms_convit
from tests.interop.vissl_reference import vissl_convit

MODELS = {
    "vit": lambda: blocks.vit(**VIT),
    "vit without a head": lambda: blocks.vit(**VIT | {"num_classes": 0}),
    "vit, tanh MLP": lambda: blocks.vit(**VIT, head=blocks.TanhMlpHead(12, 7, 5)),
    "vit, MLP": lambda: blocks.vit(**VIT, head=blocks.ProjectionMlp(12, 7, 5, depth=3)),
    "convit": lambda: blocks.convit(**CONVIT),
    "convit with biases": lambda: blocks.convit(**CONVIT | {"qkv_bias": True}),
    "convit, MLP": lambda: blocks.convit(**CONVIT, head=blocks.ProjectionMlp(16, 7, 5)),
}
every_model = pytest.mark.parametrize("name", MODELS)


def noisy(model):
    draw = torch.Generator().manual_seed(1)
    return tree.map(lambda p: p + torch.randn(p.shape, generator=draw), model.init(key(0)))


@every_model
def test_ours_to_vissl_s_layout_to_ours(name, tmp_path):
    model = MODELS[name]()
    params = noisy(model)
    path = saved(to_vissl(model, params), tmp_path / "model_final_checkpoint_phase0.torch")
    found, report = load_weights(model, path)
    assert_same(found, tree.flatten(params))
    assert (report.layout, report.fresh, report.left, report.resized) == ("VISSL", (), (), ())


@pytest.mark.parametrize("locality_dim", [7, 10])
def test_equal_features_fold_to_just_what_they_were_in_any_type(locality_dim):
    model = blocks.convit(**CONVIT)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        params = tree.cast(noisy(model), dtype)
        leaves = load_weights(model, to_vissl(model, params, locality_dim))[0]
        assert_same(leaves, tree.flatten(tree.cast(params, torch.float32)))


def test_a_convit_computes_there_what_it_computes_here():
    """By the formulas of VISSL's trunk, at its eps."""
    model = with_eps(blocks.convit(**CONVIT))
    params = tree.map(lambda p: 0.3 * p, noisy(model))
    parts = to_vissl(model, params)["classy_state_dict"]["base_model"]["model"]
    assert parts["trunk"]["blocks.0.attn.alpha"].shape == (1, 4, 1, 1)
    assert parts["trunk"]["blocks.0.attn.pos_proj.weight"].shape == (4, 30)
    assert parts["heads"].keys() == {"0.clf.0.weight", "0.clf.0.bias"}
    theirs = vissl_convit(parts["trunk"], images(), num_heads=4, local=1, locality_dim=10)
    torch.testing.assert_close(model.features(params, images()), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: distilled(blocks.vit(**VIT)), r"no place for dist_token, head_dist.weight, head_dist.bias"),
        (lambda: blocks.vit(**VIT, global_pool="avg"), r"no place for fc_norm.weight, fc_norm.bias"),
        (lambda: blocks.vit(**VIT, init_values=1.0), r"no place for blocks.\{0..1\}.ls1.gamma, blocks.\{0..1\}.ls2"),
        (lambda: blocks.vit(**VIT, mlp_layer="swiglu"), "no place for a SwiGLU"),
        (lambda: blocks.vit(**VIT, act_layer="gelu_tanh"), "no place for act_layer gelu_tanh"),
        (lambda: blocks.vit(**VIT, head=blocks.swav_head(12, 8, 4)), "no place for a ProjectionMlp"),
    ],
)
def test_what_vissl_has_no_place_for_is_named(make, said):
    model = make()
    with pytest.raises(ValueError, match=said):
        to_vissl(model, model.init(key(0)))


@pytest.mark.parametrize("name", ["vit", "vit without a head", "convit"])
def test_ours_to_timm_to_ours(name):
    """Through a model of timm's: what it holds after a strict load, not the dictionary that it was given."""
    model = MODELS[name]()
    params = noisy(model)
    theirs = timms_convit() if name == "convit" else timms(num_classes=model.head.out_features if model.head else 0)
    theirs.load_state_dict(to_timm(model, params), strict=True)
    assert_same(from_timm(model, theirs.state_dict()), tree.flatten(params))
    assert_same(load_weights(model, theirs.state_dict())[0], tree.flatten(params))
    assert (model(params, images()) - theirs(images())).abs().max() < 1e-4 * theirs(images()).abs().max().clamp(min=1)


@every_model
def test_ours_to_safetensors_to_ours(name, tmp_path):
    model = MODELS[name]()
    params = noisy(model)
    blocks.save(tmp_path / "m.safetensors", model, params)
    found, leaves = blocks.load(tmp_path / "m.safetensors")
    assert found == model
    assert_same(leaves, tree.flatten(params))
    by_name, report = load_weights(model, tmp_path / "m.safetensors")
    assert_same(by_name, tree.flatten(params))
    assert report.layout == "this library's"
