import pytest
import torch

from blocks import Dropout, Linear, Model, TanhMlpHead, TokenPool, convit, key, tree, vit
from blocks.random import normal
from blocks.trunks.distilled import DistilledModel, distilled
from blocks.trunks.vit_variants import deit_tiny_distilled

TINY = {"img_size": 8, "patch_size": 4, "num_classes": 5, "embed_dim": 8, "num_heads": 2, "depth": 2}
LOCAL = {"local_up_to_layer": 1}
MODELS = {
    "vit": lambda **knobs: vit(**TINY | knobs),
    "vit without positions": lambda **knobs: vit(**TINY | knobs, use_pos_embed=False),
    "convit": lambda **knobs: convit(**TINY | LOCAL | knobs),
    "convit, tokens first": lambda **knobs: convit(**TINY | LOCAL | knobs, class_token_in_local_layers=True),
}
every_model = pytest.mark.parametrize("name", MODELS)


def start(name="vit", images=(3, 3, 8, 8), **knobs):
    model = distilled(MODELS[name](**knobs))
    params = tree.map(lambda p: 5 * p, model.init(key(0)))
    return model, params, torch.randn(images, generator=torch.Generator().manual_seed(0))


@every_model
def test_the_model_s_answer_is_the_mean_of_its_two_heads_on_the_two_first_tokens(name):
    model, params, images = start(name)
    tokens = model.trunk(params, images)
    assert tokens.shape == (3, 6, 8)
    assert model.trunk.num_prefix_tokens == 2
    heads = [model.head(params[n], tokens[:, i]) for i, n in enumerate(("head", "head_dist"))]
    torch.testing.assert_close(model.logits(params, images), tuple(heads))
    torch.testing.assert_close(model(params, images), (heads[0] + heads[1]) / 2)
    torch.testing.assert_close(model.features(params, images), tokens[:, :2].mean(1))


@every_model
def test_the_distillation_token_stands_after_the_class_token_and_both_reach_both_logits(name):
    model, params, images = start(name)
    tokens = model.trunk.join(params, torch.zeros(2, 4, 8))
    expected = torch.cat((params["cls_token"], params["dist_token"], torch.zeros(1, 4, 8)), 1)
    assert torch.equal(tokens, expected.expand(2, -1, -1))
    before = model.logits(params, images)
    for token in ("cls_token", "dist_token"):
        after = model.logits(params | {token: normal(key(1), (1, 1, 8))}, images)
        assert all((a != b).all() for a, b in zip(before, after, strict=True))


@every_model
def test_it_starts_as_the_plain_model_does_but_for_the_new_token_and_head(name):
    plain, model = MODELS[name](), distilled(MODELS[name]())
    before, after = (tree.flatten(m.init(key(0))) for m in (plain, model))
    new = after.keys() - before.keys()
    assert new == {"dist_token", "head_dist.weight", "head_dist.bias"}
    assert all(torch.equal(t, after[n]) for n, t in before.items() if n != "pos_embed")
    assert not torch.equal(after["head.weight"], after["head_dist.weight"])
    assert not torch.equal(after["cls_token"], after["dist_token"])


def test_a_vit_s_new_token_has_a_position_and_a_convit_s_has_none():
    shapes = {name: start(name)[1].get("pos_embed") for name in ("vit", "convit", "vit without positions")}
    assert shapes["vit"].shape == (1, 6, 8)
    assert shapes["convit"].shape == (1, 4, 8)
    assert shapes["vit without positions"] is None


@every_model
def test_it_takes_images_of_any_size_that_patches_tile(name):
    model, params, images = start(name, (2, 3, 12, 20))
    assert model(params, images).shape == (2, 5)


@pytest.mark.parametrize("head", [TanhMlpHead(8, 6, 7), Linear(8, 7, std=0.0)])
def test_any_head_is_there_twice(head):
    model, params, images = start(head=head)
    assert model.head == model.head_dist == head
    assert [y.shape for y in model.logits(params, images)] == [(3, 7)] * 2


def test_without_classes_its_answer_is_its_features():
    model, params, images = start(num_classes=0)
    assert not {"head", "head_dist"} & params.keys()
    torch.testing.assert_close(model(params, images), model.features(params, images))


@every_model
def test_dropout_before_the_heads_is_each_head_s_own(name):
    model, params, images = start(name, drop_rate=0.5)
    assert model.is_random
    params["head_dist"] = params["head"]
    params["dist_token"] = params["cls_token"]
    if "pos_embed" in params:
        params["pos_embed"][:] = 0
    x, y = model.logits(params, images)
    torch.testing.assert_close(x, y)
    x, y = model.logits(params, images, key=key(1))
    assert not torch.isclose(x, y).all()


@every_model
def test_what_the_trunk_drops_is_in_every_answer(name):
    model, params, images = start(name, pos_drop_rate=0.5)
    assert model.is_random
    assert not start(name)[0].is_random
    for answer in (model, model.features, lambda *given, key: model.logits(*given, key=key)[1]):
        assert not torch.isclose(answer(params, images, key=key(1)), answer(params, images, key=key(2))).all()


def test_dropout_before_the_heads_is_independent_of_dropout_in_the_trunk():
    """As in `Model`: of ones dropped twice at one half a quarter is left."""
    model = DistilledModel(Dropout(0.5), Linear(64, 64), head_drop=0.5)
    params = {"head": {"weight": torch.eye(64), "bias": torch.zeros(64)}}
    for kept in model.logits(params, torch.ones(200, 2, 64), key=key(0)):
        assert 0.23 < (kept != 0).float().mean() < 0.27


def test_the_factories_are_deit_s_with_a_token_more():
    model = deit_tiny_distilled(10, depth=2, drop_path_rate=0.2)
    assert isinstance(model, DistilledModel)
    assert (model.trunk.embed_dim, len(model.trunk.blocks), model.trunk.blocks[1].drop_path) == (192, 2, 0.2)
    assert model.trunk.pos_embed.num_prefix_tokens == 2
    assert model.head.out_features == model.head_dist.out_features == 10


@every_model
def test_a_mean_over_patches_has_no_place_for_the_token(name):
    with pytest.raises(ValueError, match=r'under a MeanPool cannot be given .*global_pool="token"'):
        distilled(MODELS[name](global_pool="avg"))


def test_one_distillation_token_is_enough():
    model = distilled(vit(**TINY))
    with pytest.raises(ValueError, match="has a distillation token already"):
        distilled(model)
    with pytest.raises(ValueError, match="a ViT under a TokenPool cannot be given"):
        distilled(Model(model.trunk, TokenPool()))
    with pytest.raises(ValueError, match="a Dropout under a TokenPool cannot be given"):
        distilled(Model(Dropout(0.5), TokenPool()))
