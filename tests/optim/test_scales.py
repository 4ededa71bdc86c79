"""Factors on the rate by name: patterns, layer-wise decay, a rate for the head."""

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay

from blocks import tree
from blocks.optim.adamw import adamw
from blocks.optim.scales import head_lr, layer_decay
from blocks.random import key
from blocks.trunks.convit import convit
from blocks.trunks.vit import vit

TINY = {"img_size": 32, "patch_size": 16, "embed_dim": 8, "depth": 3, "num_classes": 3}


@pytest.fixture
def params():
    return vit(**TINY, num_heads=2).init(key(0))


def test_layer_decay_counts_embeddings_as_layer_zero_and_the_head_as_the_last(params):
    """MAE's numbering: 3 layers make ids 0 to 4."""
    factors = layer_decay(params, 0.5)
    assert factors.keys() == tree.flatten(params).keys()
    embeddings = {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    assert {name for name, factor in factors.items() if factor == 0.5**4} == embeddings
    for i in range(3):
        assert {f for name, f in factors.items() if name.startswith(f"blocks.{i}.")} == {0.5 ** (3 - i)}
    top = {"norm.weight", "norm.bias", "head.weight", "head.bias"}
    assert {name for name, factor in factors.items() if factor == 1.0} == top


def test_layer_decay_is_timms_except_for_the_last_norm(params):
    """timm puts the norm after the layers into the last layer's group, BEiT and MAE into the head's."""
    model = timm.models.vision_transformer.VisionTransformer(**TINY, num_heads=2)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = param_groups_layer_decay(model, layer_decay=0.5)
    theirs = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}
    ours = layer_decay(params, 0.5)
    assert {n for n in ours if ours[n] != theirs[n]} == {"norm.weight", "norm.bias"}
    assert ours.keys() == theirs.keys()


def test_convits_class_token_is_an_embedding_though_it_joins_late():
    factors = layer_decay(convit(**TINY, num_heads=4, local_up_to_layer=2).init(key(0)), 0.5)
    assert factors["cls_token"] == factors["pos_embed"] == 0.5**4
    assert factors["blocks.0.attn.gating_param"] == 0.5**3


def test_names_below_another_node_and_layers_beyond_nine_are_understood():
    names = [f"student.blocks.{i}.w" for i in range(12)] + ["student.patch_embed.w", "predictor.w"]
    factors = layer_decay({name: torch.zeros(1) for name in names}, 0.5)
    assert factors["student.blocks.2.w"] == 0.5**10
    assert factors["student.blocks.11.w"] == 0.5
    assert factors["student.patch_embed.w"] == 0.5**13
    assert factors["predictor.w"] == 1


def test_the_patch_embedding_may_have_a_factor_besides(params):
    factors, slower = layer_decay(params, 0.5), layer_decay(params, 0.5, patch_lr=0.2)
    changed = {name for name in factors if factors[name] != slower[name]}
    assert changed == {"patch_embed.proj.weight", "patch_embed.proj.bias"}
    assert {slower[name] for name in changed} == {0.2 * 0.5**4}
    assert layer_decay(params, 1.0, 0.2)["patch_embed.proj.weight"] == 0.2


def test_of_the_params_that_are_trained_the_factors_are_the_same(params):
    trained = {n: t for n, t in tree.flatten(params).items() if not n.startswith(("blocks.0.", "patch_embed"))}
    factors = layer_decay(params, 0.5)
    assert layer_decay(trained, 0.5) == {name: factors[name] for name in trained}


def test_the_head_may_have_a_rate_of_its_own_beside_layer_decay(params):
    assert head_lr(params, 10.0) == {"head.weight": 10.0, "head.bias": 10.0}
    words = adamw(1e-3, lr_scales={**layer_decay(params, 0.5), **head_lr(params, 10.0)}).describe(params)
    assert words["head.weight"] == "weight decay 0.05, rate x 10"
    assert words["head.bias"] == "no weight decay, rate x 10"
    assert words["blocks.2.mlp.fc1.weight"] == "weight decay 0.05, rate x 0.5"
    assert words["norm.bias"] == "no weight decay"


def test_a_name_that_two_patterns_match_is_an_error_that_names_them(params):
    with pytest.raises(ValueError, match=r"blocks\.1\.\S+ matches two of lr_scales, 'blocks\.\*' and 'blocks\.1\.\*'"):
        adamw(1e-3, lr_scales={"blocks.*": 0.1, "blocks.1.*": 0.2}).init(params)


def test_what_cannot_be_scaled_is_refused(params):
    with pytest.raises(ValueError, match=r"decay 1\.5 is not in \(0, 1\]"):
        layer_decay(params, 1.5)
    with pytest.raises(ValueError, match="no layers; names are like fc"):
        layer_decay({"fc": torch.zeros(1)}, 0.5)
    with pytest.raises(ValueError, match="below head"):
        head_lr({"fc": torch.zeros(1)}, 2.0)
