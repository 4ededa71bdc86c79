"""DINOv2 with and without registers: timm's files and Meta's own, at other sizes, and what a misfit is told."""

import pytest
import timm
import torch
from timm.layers import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import blocks
from blocks import tree
from tests.interop.timms import VIT, assert_same, images, timms

SCALED = {"init_values": 0.1, "num_classes": 0}
REGISTERS = {"reg_tokens": 4, "no_embed_class": True}


def with_registers():
    return timms(VisionTransformer, **SCALED, **REGISTERS)


@pytest.mark.parametrize(
    "name", ["vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2", "deit3_small_patch16_224"]
)
def test_timm_s_models_are_made_by_these_knobs(name):
    """By names and shapes, without weights."""
    knobs = {"patch_size": 14, "img_size": 518, "num_classes": 0} if "dinov2" in name else {"no_embed_class": True}
    knobs |= REGISTERS if "reg4" in name else {}
    with torch.device("meta"):
        theirs = timm.create_model(name, pretrained=False).state_dict()
    ours = tree.flatten(blocks.vit_small(init_values=1e-5, **knobs).init(blocks.key(0, device="meta")))
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}


def test_registers_stand_between_class_token_and_patches_as_in_timm_also_at_another_size():
    theirs = with_registers()
    model = blocks.vit(**VIT | SCALED | REGISTERS)
    params, report = blocks.load_weights(model, theirs.state_dict())
    assert_same(params, dict(theirs.state_dict()))
    assert report.resized == ()
    assert model.trunk.num_prefix_tokens == 5
    torch.testing.assert_close(model.trunk(params, images()), theirs.forward_features(images()), rtol=0, atol=1e-5)
    larger = blocks.vit(**VIT | SCALED | REGISTERS | {"img_size": 24})
    at_24, report = blocks.load_weights(larger, theirs.state_dict())
    assert report.resized == ("pos_embed: 4 x 4 patches to 6 x 6",)
    theirs.set_input_size((24, 24))
    torch.testing.assert_close(larger(at_24, images(24)), theirs(images(24)), rtol=0, atol=1e-5)


def test_intermediate_layers_split_off_registers_with_the_class_token():
    theirs, model = with_registers(), blocks.vit(**VIT | SCALED | REGISTERS)
    params = blocks.from_timm(model, theirs.state_dict())
    found = blocks.intermediate_layers(model, params, images(), 1, norm=True, return_prefix_tokens=True)
    expected = theirs.forward_intermediates(images(), 1, norm=True, return_prefix_tokens=True, intermediates_only=True)
    for one, other in zip(found[0], expected[0], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_meta_s_own_file_with_registers_gives_the_same_tokens():
    """There the class token has a position, which timm adds to it once."""
    theirs = with_registers()
    own = dict(theirs.state_dict())
    row = torch.randn(1, 1, 12)
    own["register_tokens"] = own.pop("reg_token")
    own["pos_embed"] = torch.cat((row, own["pos_embed"]), 1)
    own["cls_token"] = own["cls_token"] - row
    own["mask_token"] = torch.zeros(1, 12)
    model = blocks.vit(**VIT | SCALED | REGISTERS)
    params, report = blocks.load_weights(model, own)
    assert report.left == ("mask_token",)
    torch.testing.assert_close(model(params, images()), theirs(images()), rtol=0, atol=1e-5)


def test_meta_s_own_giant_names_its_gated_mlp_otherwise():
    theirs = gated()
    own = {n.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): t for n, t in theirs.state_dict().items()}
    model = blocks.vit(**VIT | SCALED, mlp_layer="swiglu", mlp_ratio=2.66667)
    params, report = blocks.load_weights(model, own)
    assert report.left == report.fresh == ()
    torch.testing.assert_close(model(params, images()), theirs(images()), rtol=0, atol=1e-5)


def gated(**knobs):
    return timms(**SCALED | knobs, mlp_layer=SwiGLUPacked, act_layer=nn.SiLU, mlp_ratio=2 * 2.66667)


@pytest.mark.parametrize("load", [blocks.from_timm, blocks.load_weights])
def test_a_gated_mlp_is_told_by_its_shapes(load):
    with pytest.raises(ValueError, match=r'gated MLPs: make the model with mlp_layer="swiglu", mlp_ratio=2\.66667'):
        load(blocks.vit(**VIT | SCALED), gated().state_dict())
    with pytest.raises(ValueError, match=r"no gated MLPs: make the model without mlp_layer"):
        load(blocks.vit(**VIT | SCALED, mlp_layer="swiglu"), timms(**SCALED).state_dict())


MISFITS = {
    "layer scale": ({"init_values": 0.1}, {}, r"the file has layer scale: make the model with init_values=1e-5"),
    "no layer scale": ({}, {"init_values": 0.1}, "the file has no layer scale: make the model without init_values"),
    "registers": (REGISTERS, {}, r"registers: make the model with reg_tokens=4, no_embed_class=True"),
    "no bias": ({"qkv_bias": False}, {}, "make the model with qkv_bias=False"),
    "a norm of the mean": ({"global_pool": "avg"}, {}, 'make the model with global_pool="avg"'),
    "a norm of tokens": ({}, {"global_pool": "avg"}, 'make the model with global_pool="token" or fc_norm=False'),
    "no class token": ({"class_token": False, "global_pool": "avg"}, {"global_pool": "avg"}, "class_token=False"),
    "a norm before": ({"pre_norm": True}, {}, r"pre_norm=True, norm_eps=1e-5 \(act_layer=\"quick_gelu\" for OpenAI's"),
    "no norm before": ({}, {"pre_norm": True}, "no norm before its layers: make the model without pre_norm"),
    "norms of queries": ({"qk_norm": True}, {}, r"norms of queries and keys: docs/block\.md writes"),
}


@pytest.mark.parametrize("load", [blocks.from_timm, blocks.load_weights])
@pytest.mark.parametrize("name", MISFITS)
def test_the_error_says_which_option_the_file_wants(name, load):
    theirs, ours, said = MISFITS[name]
    with pytest.raises(ValueError, match=said):
        load(blocks.vit(**VIT | ours), timms(**theirs).state_dict())


def test_layer_scales_of_all_layers_are_one_entry():
    with pytest.raises(ValueError, match=r"unexpected: blocks\.\{0\.\.1\}\.ls1\.gamma \[12\], blocks"):
        blocks.load_weights(blocks.vit(**VIT), timms(init_values=0.1).state_dict())


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"reg_tokens": 4}, "reg_tokens 4 have no positions: use no_embed_class=True"),
        ({"reg_tokens": -1}, "reg_tokens -1"),
        ({"reg_tokens": 2, "no_embed_class": True, "class_token": False}, 'global_pool "token" needs the class token'),
    ],
)
def test_registers_that_cannot_be_are_refused(knobs, said):
    with pytest.raises(ValueError, match=said):
        blocks.vit(**VIT | knobs)
