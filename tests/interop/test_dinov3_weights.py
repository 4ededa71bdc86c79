"""DINOv3: timm's files, with a bias and without, and Meta's own; also at other sizes."""

from functools import partial

import pytest
import torch
from timm.models.eva import Eva
from torch import nn

import blocks
from tests.interop.timms import VIT, images, timms

VIT_24 = VIT | {"embed_dim": 24}  # heads of 8: two waves an axis
DINOV3 = VIT_24 | {"num_classes": 0, "init_values": 0.1, "norm_eps": 1e-5, "reg_tokens": 4, "pos_embed": "rope"}


def theirs(qkv_bias, **more):
    rope = {"use_abs_pos_emb": False, "use_rot_pos_emb": True, "rope_type": "dinov3", "rope_temperature": 100}
    knobs = rope | {"rope_rotate_half": True, "num_reg_tokens": 4, "use_fc_norm": False, "global_pool": "token"}
    knobs |= {"embed_dim": 24, "num_classes": 0, "init_values": 0.1, "norm_layer": partial(nn.LayerNorm, eps=1e-5)}
    return timms(Eva, **knobs, qkv_bias=qkv_bias, dynamic_img_size=True, **more)


@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("size", [16, 28])
def test_timm_s_file_gives_timm_s_tokens_also_at_another_size(qkv_bias, size):
    eva, model = theirs(qkv_bias), blocks.vit(**DINOV3, qkv_bias=qkv_bias)
    params, report = blocks.load_weights(model, eva.state_dict())
    assert report.left == report.resized == ()
    x = images(size)
    torch.testing.assert_close(model.trunk(params, x), eva.forward_features(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(model(params, x), eva(x), rtol=0, atol=1e-5)


def test_intermediate_layers_are_timm_s():
    eva, model = theirs(False), blocks.vit(**DINOV3, qkv_bias=False)
    params, _ = blocks.load_weights(model, eva.state_dict())
    found = blocks.intermediate_layers(model, params, images(), norm=True)
    expected = eva.forward_intermediates(images(), norm=True, intermediates_only=True)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_meta_s_own_file_masks_the_keys_bias():
    eva, model = theirs(True), blocks.vit(**DINOV3)
    own = {
        name.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma"): t for name, t in eva.state_dict().items()
    }
    for i in range(2):
        q, v = (own.pop(f"blocks.{i}.attn.{part}_bias") for part in "qv")
        own[f"blocks.{i}.attn.qkv.bias"] = torch.cat((q, torch.randn(24), v))
        own[f"blocks.{i}.attn.qkv.bias_mask"] = torch.ones(3, 24).index_fill(0, torch.tensor(1), 0).flatten()
    own["storage_tokens"] = own.pop("reg_token")
    periods = 100 ** (torch.arange(2) / 2)
    own |= {"mask_token": torch.zeros(1, 24), "rope_embed.periods": periods.bfloat16()}
    params, report = blocks.load_weights(model, own)
    assert set(report.left) == {"mask_token", "rope_embed.periods"}
    torch.testing.assert_close(model(params, images()), eva(images()), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"unexpected: rope_embed\.periods"):  # it turns otherwise than the model
        blocks.load_weights(model, own | {"rope_embed.periods": 1.01 * periods})


GATED = {"swiglu_mlp": True, "swiglu_align_to": 8}  # timm's, of the "plus" sizes


@pytest.mark.parametrize("names", ["timm's", "Meta's"])
def test_the_plus_sizes_gate_their_mlps(names):
    eva, model = theirs(False, **GATED), blocks.vit(**DINOV3, qkv_bias=False, mlp_layer="swiglu")
    leaves = dict(eva.state_dict())
    if names == "Meta's":
        for one, other in (("fc1_g", "w1"), ("fc1_x", "w2"), ("fc2", "w3")):
            leaves = {name.replace(f"mlp.{one}", f"mlp.{other}"): leaf for name, leaf in leaves.items()}
    params, report = blocks.load_weights(model, leaves)
    assert report.left == report.fresh == ()
    torch.testing.assert_close(model(params, images()), eva(images()), rtol=0, atol=1e-5)


def test_a_model_without_gated_mlps_is_told_the_option():
    with pytest.raises(ValueError, match=r'gated MLPs: make the model with mlp_layer="swiglu", mlp_ratio=4.0\n'):
        blocks.load_weights(blocks.vit(**DINOV3, qkv_bias=False), theirs(False, **GATED).state_dict())


def test_a_model_with_learned_positions_is_told_the_option():
    with pytest.raises(ValueError, match='the file has no pos_embed: make the model with pos_embed="rope", as DINOv3'):
        blocks.load_weights(blocks.vit(**VIT_24 | {"num_classes": 0}), theirs(True).state_dict())
