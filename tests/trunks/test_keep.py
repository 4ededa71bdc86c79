"""Trunks that are given some of an image's patches."""

import pytest
import torch

from blocks import convit, key, tree, vit
from blocks.objectives.masking import random_keep
from blocks.random import per_sample
from blocks.trunks.distilled import distilled

TINY = {"img_size": 8, "patch_size": 4, "num_classes": 0, "embed_dim": 8, "num_heads": 2, "depth": 3}
LOCAL = {"local_up_to_layer": 2}
TRUNKS = {
    "vit": lambda **knobs: vit(**TINY | knobs),
    "vit, sincos, mean": lambda **knobs: vit(**TINY | knobs, pos_embed="sincos", global_pool="avg"),
    "distilled vit": lambda **knobs: distilled(vit(**TINY | knobs)),
    "vit, rope": lambda **knobs: vit(**TINY | knobs, pos_embed="rope", reg_tokens=2),
    "vit with a norm before its layers": lambda **knobs: vit(**TINY | knobs, pre_norm=True),
    "vit without class token": lambda **knobs: vit(**TINY | knobs, class_token=False, global_pool="avg"),
    "convit": lambda **knobs: convit(**TINY | LOCAL | knobs),
    "convit, sincos": lambda **knobs: convit(**TINY | LOCAL | knobs, pos_embed="sincos"),
    "convit, token first": lambda **knobs: convit(**TINY | LOCAL | knobs, class_token_in_local_layers=True),
}
every_trunk = pytest.mark.parametrize("name", TRUNKS)
KEEP = torch.tensor([[0, 3, 4, 5, 11], [2, 7, 8, 9, 10]])


def start(name, **knobs):
    """Trunk, params, and patches [2, 12, 8] on a grid of 3 x 4, in float64."""
    trunk = TRUNKS[name](**knobs).trunk
    params = tree.map(lambda p: 1.5 * p.double(), trunk.init(key(0)))
    images = torch.randn(2, 3, 12, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return trunk, params, trunk.embed(params, images), images


@every_trunk
def test_it_is_embedding_and_encoding(name):
    trunk, params, patches, images = start(name)
    assert patches.shape == (2, 12, 8)
    assert trunk.grid(images) == (3, 4)
    assert torch.equal(trunk(params, images), trunk.encode(params, patches, grid=(3, 4)))


@every_trunk
def test_keeping_all_patches_is_keeping_none_back(name):
    trunk, params, patches, _ = start(name)
    whole = trunk.encode(params, patches, grid=(3, 4))
    kept = trunk.encode(params, patches, grid=(3, 4), keep=torch.arange(12).expand(2, -1))
    torch.testing.assert_close(kept, whole, rtol=1e-11, atol=1e-11)


@every_trunk
def test_what_is_not_kept_is_seen_by_no_token_and_what_is_by_all(name):
    trunk, params, patches, _ = start(name)
    tokens = trunk.encode(params, patches, grid=(3, 4), keep=KEEP)
    assert tokens.shape == (2, trunk.num_prefix_tokens + 5, 8)
    masked, seen = patches.clone(), patches.clone()
    masked[0, 1, 0] += 1
    seen[0, 3, 0] += 1
    assert torch.equal(tokens, trunk.encode(params, masked, grid=(3, 4), keep=KEEP))
    other = trunk.encode(params, seen, grid=(3, 4), keep=KEEP)
    assert (tokens[0] != other[0]).any(-1).all()
    assert torch.equal(tokens[1], other[1])


@every_trunk
def test_the_order_of_the_kept_is_the_order_of_the_tokens_and_nothing_else(name):
    trunk, params, patches, _ = start(name)
    order = torch.tensor([3, 1, 0, 4, 2])
    prefix = torch.arange(trunk.num_prefix_tokens)
    tokens, other = (trunk.encode(params, patches, grid=(3, 4), keep=k) for k in (KEEP, KEEP[:, order]))
    places = torch.cat((prefix, order + len(prefix)))
    torch.testing.assert_close(tokens[:, places], other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["vit", "vit, sincos, mean", "convit", "convit, token first"])
def test_a_patch_s_place_matters_when_it_is_kept(name):
    trunk, params, patches, _ = start(name)
    same = patches[:, :1].expand(-1, 12, -1)
    tokens = trunk.encode(params, same, grid=(3, 4), keep=KEEP)[:, trunk.num_prefix_tokens :]
    assert len(tokens.flatten(0, 1).round(decimals=8).unique(dim=0)) == 10


def test_a_vit_s_encoder_is_its_layers_over_the_chosen_embedded_tokens():
    trunk, params, patches, _ = start("vit", img_size=(12, 16))
    position = params["pos_embed"]
    x = (patches + position[:, 1:])[torch.arange(2)[:, None], KEEP]
    x = torch.cat(((params["cls_token"] + position[:, :1]).expand(2, -1, -1), x), 1)
    for i, layer in enumerate(trunk.blocks):
        x = layer(params["blocks"][str(i)], x)
    torch.testing.assert_close(trunk.encode(params, patches, grid=(3, 4), keep=KEEP), trunk.norm(params["norm"], x))


@every_trunk
def test_a_sample_drops_the_same_in_any_batch(name):
    rates = {"pos_drop_rate": 0.3, "proj_drop_rate": 0.3, "attn_drop_rate": 0.3, "drop_path_rate": 0.3}
    trunk, params, patches, _ = start(name, **rates)
    keys = per_sample(key(3), 2)
    whole = trunk.encode(params, patches, grid=(3, 4), keep=KEEP, key=keys)
    last = trunk.encode(params, patches[1:], grid=(3, 4), keep=KEEP[1:], key=keys[1:])
    torch.testing.assert_close(whole[1:], last, rtol=1e-11, atol=1e-11)
    assert not torch.isclose(whole, trunk.encode(params, patches, grid=(3, 4), keep=KEEP)).all()


@every_trunk
def test_all_params_but_those_of_a_masked_part_get_a_gradient(name):
    trunk, params, _, images = start(name)
    params = tree.map(lambda p: p.requires_grad_(), params)
    keep = random_keep(per_sample(key(0), 2), 12, 4)
    tokens = trunk.encode(params, trunk.embed(params, images), grid=(3, 4), keep=keep)
    leaves = tree.flatten(params)
    grads = torch.autograd.grad((tokens**3).sum(), list(leaves.values()))
    still = {n for n, g in zip(leaves, grads, strict=True) if not g.any()}
    assert all(n.endswith("pos_proj.bias") for n in still)  # it cancels in the softmax


def test_positions_are_learned_fixed_or_none_at_all():
    kinds = {name: set(TRUNKS[name]().trunk.init(key(0))) & {"pos_embed"} for name in ("vit", "vit, sincos, mean")}
    assert kinds == {"vit": {"pos_embed"}, "vit, sincos, mean": set()}
    for factory in (vit, convit):
        with pytest.raises(ValueError, match="pos_embed 'rotary' is not known"):
            factory(pos_embed="rotary")
        assert factory(use_pos_embed=False, pos_embed="sincos").trunk.pos_embed is None


def test_gpsa_over_kept_patches_wants_their_tokens():
    trunk, params, patches, _ = start("convit")
    attn = trunk.blocks[0].attn
    with pytest.raises(ValueError, match=r"5 tokens and grid \(3, 4\), of which 6 patches are kept"):
        attn(params["blocks"]["0"]["attn"], patches[:, :5], grid=(3, 4), keep=torch.arange(6).expand(2, -1))
