"""DeiT's distilled models and DeiT III, from their own files."""

import pytest
import torch
from timm.models.deit import VisionTransformerDistilled

import blocks
from blocks import key
from blocks.interop.checkpoints import load_weights
from blocks.trunks.distilled import distilled
from tests.interop.timms import VIT, assert_same, images, timms


def test_a_distilled_deit_gives_its_logits():
    theirs = timms(VisionTransformerDistilled)
    model = distilled(blocks.vit(**VIT))
    params, report = load_weights(model, {"model": theirs.state_dict()})
    assert_same(params, dict(theirs.state_dict()))
    assert torch.allclose(model(params, images()), theirs(images()), atol=1e-5)
    large = distilled(blocks.vit(**VIT | {"img_size": 24, "num_classes": 3}))
    params, report = load_weights(large, theirs.state_dict(), head="new", key=key(0))
    assert torch.equal(params["pos_embed"][:, :2], theirs.pos_embed[:, :2])
    assert report.fresh == ("head.weight", "head.bias", "head_dist.weight", "head_dist.bias")
    assert report.resized == ("pos_embed: 4 x 4 patches to 6 x 6",)


def test_a_distilled_file_serves_a_plain_model_without_the_row_of_its_second_token():
    weights = timms(VisionTransformerDistilled).state_dict()
    params, report = load_weights(blocks.vit(**VIT), weights, ignore=["dist_token", "head_dist.*"])
    assert torch.equal(params["pos_embed"], weights["pos_embed"][:, [0, *range(2, 18)]])
    assert report.resized == ("pos_embed: row of dist_token left out",)


def test_a_plain_file_serves_a_distilled_model_whose_second_token_starts_afresh():
    weights, model = timms().state_dict(), distilled(blocks.vit(**VIT))
    with pytest.raises(ValueError, match=r"missing: dist_token \[1, 1, 12\], head_dist"):
        load_weights(model, weights)
    params, report = load_weights(model, weights, key=key(6), fresh=["dist_token", "head_dist.*"])
    assert torch.equal(params["pos_embed"][:, [0, *range(2, 18)]], weights["pos_embed"])
    assert torch.equal(params["pos_embed"][:, 1], model.init(key(6))["pos_embed"][:, 1])
    assert report.resized == ("pos_embed: row of dist_token fresh",)


def test_a_deit_iii_whose_class_token_has_no_position_gives_its_logits():
    theirs = timms(no_embed_class=True, init_values=0.1)
    model = blocks.vit(**VIT, init_values=0.1)
    old = {n.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): t for n, t in theirs.state_dict().items()}
    params, report = load_weights(model, {"model": old})  # names of DeiT III's own files
    assert torch.allclose(model(params, images()), theirs(images()), atol=1e-5)
    assert report.resized == ("pos_embed: row of cls_token zero",)
    fresh, report = load_weights(model, {"model": old}, head="new", key=key(0))
    assert torch.equal(fresh["pos_embed"], params["pos_embed"])  # zero also where the model's own start is at hand
    assert report.resized == ("pos_embed: row of cls_token zero",)
