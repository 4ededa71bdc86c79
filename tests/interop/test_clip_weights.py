"""CLIP's image towers as timm has them: heads, layers, sizes, saved files. Their logits are in test_timm."""

from functools import partial

import attrs
import pytest
import torch
from torch import nn

import blocks
from blocks import tree
from blocks.interop.construction import build, describe
from blocks.interop.refit import pooling
from blocks.interop.vissl import to_vissl
from tests.interop.timms import VIT, assert_same, images, timms

CLIP = {"pre_norm": True, "norm_eps": 1e-5}
OPENAI = CLIP | {"act_layer": "quick_gelu"}


def openai(**knobs):
    return timms(pre_norm=True, norm_layer=partial(nn.LayerNorm, eps=1e-5), act_layer="quick_gelu", **knobs)


def test_the_projection_is_the_head_and_can_be_left_out():
    theirs = openai(num_classes=7)
    params, report = blocks.load_weights(blocks.vit(**VIT | OPENAI | {"num_classes": 7}), theirs.state_dict())
    assert_same(params, dict(theirs.state_dict()))
    trunk = blocks.vit(**VIT | OPENAI | {"num_classes": 0})
    params, report = blocks.load_weights(trunk, theirs.state_dict(), head="new")
    assert report.left == ("head.weight", "head.bias")
    features = theirs.forward_head(theirs.forward_features(images()), pre_logits=True)
    torch.testing.assert_close(trunk(params, images()), features, rtol=0, atol=1e-5)


def test_siglip_is_resized_with_its_pool():
    theirs = timms(class_token=False, global_pool="map", num_classes=0)
    larger = blocks.vit(**VIT | {"num_classes": 0, "img_size": 24}, class_token=False, global_pool="map")
    params, report = blocks.load_weights(larger, theirs.state_dict())
    assert report.resized == ("pos_embed: 4 x 4 patches to 6 x 6",)
    theirs.set_input_size((24, 24))
    torch.testing.assert_close(larger(params, images(24)), theirs(images(24)), rtol=0, atol=1e-5)


def test_a_model_that_does_not_pool_by_attention_is_told_the_option():
    theirs = timms(class_token=False, global_pool="map", num_classes=0)
    model = blocks.vit(**VIT | {"num_classes": 0}, class_token=False, global_pool="avg", fc_norm=False)
    with pytest.raises(ValueError, match='pools by attention: make the model with global_pool="map", or give ignore='):
        blocks.load_weights(model, theirs.state_dict())
    mapped = blocks.vit(**VIT | {"num_classes": 0}, class_token=False, global_pool="map")
    with pytest.raises(ValueError, match='not pool by attention: make the model with global_pool="avg" or "token"'):
        blocks.load_weights(
            mapped, timms(class_token=False, global_pool="avg", fc_norm=False, num_classes=0).state_dict()
        )


def test_siglip_without_its_attention_pool_gives_the_tokens():
    theirs = timms(class_token=False, global_pool="map", num_classes=0)
    model = blocks.vit(**VIT | {"num_classes": 0}, class_token=False, global_pool="avg", fc_norm=False)
    with pytest.raises(ValueError, match=r"unexpected: attn_pool\.latent"):
        blocks.load_weights(model, theirs.state_dict())
    params, _ = blocks.load_weights(model, theirs.state_dict(), ignore=["attn_pool.*"])
    expected = theirs.forward_features(images()).mean(1)
    torch.testing.assert_close(model(params, images()), expected, rtol=0, atol=1e-5)


def test_intermediate_layers_begin_after_the_norm():
    theirs, model = openai(), blocks.vit(**VIT | OPENAI)
    params = blocks.from_timm(model, theirs.state_dict())
    found = blocks.intermediate_layers(model, params, images(), return_prefix_tokens=True)
    expected = theirs.forward_intermediates(images(), return_prefix_tokens=True, intermediates_only=True)
    for ours, timm_s in zip(found, expected, strict=True):
        for one, other in zip(ours, timm_s, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    begun = model.trunk.intermediate_tokens(params, images())[0]
    torch.testing.assert_close(begun, theirs.norm_pre(theirs._pos_embed(theirs.patch_embed(images()))))


def test_a_larger_image_resizes_the_positions_alone():
    theirs = openai()
    larger = blocks.vit(**VIT | OPENAI | {"img_size": 24})
    params, report = blocks.load_weights(larger, theirs.state_dict())
    assert report.resized == ("pos_embed: 4 x 4 patches to 6 x 6",)
    theirs.set_input_size((24, 24))
    torch.testing.assert_close(larger(params, images(24)), theirs(images(24)), rtol=0, atol=1e-5)


def test_it_is_saved_with_what_names_do_not_tell(tmp_path):
    model = blocks.vit(**VIT | OPENAI)
    params = model.init(blocks.key(0))
    blocks.save(tmp_path / "clip.safetensors", model, params)
    again, its = blocks.load(tmp_path / "clip.safetensors")
    assert again == model
    assert torch.equal(again(its, images()), model(params, images()))


def test_a_description_from_before_these_options_is_of_a_model_without_them():
    model = blocks.vit(**VIT)
    old = describe(model)
    del old["trunk"]["norm_pre"], old["trunk"]["patch_embed"]["bias"]
    for layer in old["trunk"]["blocks"]:
        del layer["mlp"]["act_layer"]
    assert build(old) == model


def test_the_options_leave_the_other_parts_start_as_it_is():
    plain, other = (tree.flatten(blocks.vit(**VIT | knobs).init(blocks.key(0))) for knobs in ({}, OPENAI))
    assert other.keys() - plain.keys() == {"norm_pre.weight", "norm_pre.bias"}
    assert plain.keys() - other.keys() == {"patch_embed.proj.bias"}
    assert all(torch.equal(leaf, plain[name]) for name, leaf in other.items() if name in plain)


def test_another_pool_keeps_the_norm_s_eps():
    for first, second in (("token", "avg"), ("avg", "token"), ("map", "avg"), ("map", "token")):
        made = blocks.vit(**VIT | CLIP, global_pool=second)
        assert pooling(blocks.vit(**VIT | CLIP, global_pool=first), second) == made


def test_vissl_has_no_place_for_the_norm():
    model = blocks.vit(**VIT | CLIP)
    with pytest.raises(ValueError, match=r"VISSL has no place for norm_pre\.weight"):
        to_vissl(model, model.init(blocks.key(0)))


def test_the_norm_stands_after_the_dropout_of_positions_as_in_timm():
    """All dropped, what is normed is 0, and only the norm's bias begins."""
    model = blocks.vit(**VIT | CLIP, pos_drop_rate=0.999999)
    params = model.init(blocks.key(0))
    params["norm_pre"]["bias"] += 1
    first = attrs.evolve(model.trunk, blocks=(), norm=None)
    tokens = first(params, images(), key=blocks.key(1))
    assert torch.equal(tokens, torch.ones_like(tokens))


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"act_layer": "silu"}, "act_layer 'silu' is not known; use one of gelu, quick_gelu, gelu_tanh"),
        ({"mlp_layer": "glu"}, 'mlp_layer \'glu\' is not known; use "mlp" or "swiglu"'),
        (
            {"mlp_layer": "swiglu", "act_layer": "quick_gelu"},
            'act_layer "quick_gelu" is of mlp_layer "mlp"; ',
        ),
        ({"fc_norm": True}, 'fc_norm norms the mean of patches, and global_pool is "token"; use "avg"'),
        ({"norm_eps": 0}, "eps 0 is not above 0"),
    ],
)
def test_options_that_cannot_be_are_refused(knobs, said):
    with pytest.raises(ValueError, match=said):
        blocks.vit(**VIT | knobs)
