import pytest
import torch

import blocks
from blocks import ProjectionMlp, TanhMlpHead, key, tree, vit

TINY = {"img_size": 8, "patch_size": 4, "num_classes": 5, "embed_dim": 8, "num_heads": 2, "depth": 2}


def run(model, images, **options):
    return model(model.init(key(0)), images, **options)


def test_an_image_becomes_logits_features_and_tokens():
    model, images = vit(**TINY), torch.randn(2, 3, 8, 8)
    params = model.init(key(0))
    assert model(params, images).shape == (2, 5)
    assert model.features(params, images).shape == (2, 8)
    assert model.trunk(params, images).shape == (2, 5, 8)
    assert (model.trunk.embed_dim, model.trunk.num_prefix_tokens) == (8, 1)


def test_without_classes_there_is_no_head():
    model, images = vit(**TINY | {"num_classes": 0}), torch.randn(2, 3, 8, 8)
    params = model.init(key(0))
    assert "head" not in params
    assert torch.equal(model(params, images), model.features(params, images))


@pytest.mark.parametrize(("head", "width"), [(TanhMlpHead(8, 16, 7), 7), (ProjectionMlp(8, 16, 3), 3)])
def test_any_head_takes_the_linear_one_s_place(head, width):
    assert run(vit(**TINY, head=head), torch.randn(2, 3, 8, 8)).shape == (2, width)


def test_another_head_leaves_the_trunk_s_start_as_it_is():
    plain, other = (tree.flatten(vit(**TINY, head=h).init(key(0))) for h in (None, ProjectionMlp(8, 16, 3)))
    assert all(torch.equal(leaf, other[n]) for n, leaf in plain.items() if not n.startswith("head"))


@pytest.mark.parametrize("class_token", [True, False])
def test_mean_pooling_works_with_and_without_a_class_token(class_token):
    model = vit(**TINY, global_pool="avg", class_token=class_token)
    params = model.init(key(0))
    images = torch.randn(1, 3, 8, 8)
    assert ("cls_token" in params, "norm" in params, "fc_norm" in params) == (class_token, False, True)
    assert model.trunk(params, images).shape == (1, 4 + class_token, 8)
    assert model(params, images).shape == (1, 5)


def test_pooling_a_class_token_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match='global_pool "token" needs the class token'):
        vit(**TINY, class_token=False)
    with pytest.raises(ValueError, match="global_pool 'max' is not known"):
        vit(**TINY, global_pool="max")


@pytest.mark.parametrize("grid", [(2, 2), (3, 2), (5, 7)])
@pytest.mark.parametrize("use_pos_embed", [True, False])
def test_it_takes_images_of_any_size_that_patches_tile(grid, use_pos_embed):
    images = torch.randn(2, 3, 4 * grid[0], 4 * grid[1])
    model = vit(**TINY, use_pos_embed=use_pos_embed)
    assert model.trunk(model.init(key(0)), images).shape == (2, 1 + grid[0] * grid[1], 8)


def test_an_image_size_that_patches_do_not_tile_is_an_error():
    with pytest.raises(ValueError, match="img_size 9 x 8 is not tiled by patch_size 4"):
        vit(**TINY | {"img_size": (9, 8)})
    with pytest.raises(ValueError, match="9 x 8 is not tiled by patches of 4 x 4; 8 x 8 is"):
        run(vit(**TINY), torch.randn(2, 3, 9, 8))


def test_an_unknown_knob_is_a_type_error():
    for factory in (vit, blocks.vit_tiny, blocks.deit_base, blocks.convit, blocks.convit_small_plus):
        with pytest.raises(TypeError, match="drop_path"):
            factory(drop_path=0.1)


def test_an_activation_that_gated_mlps_do_not_have_is_an_error():
    with pytest.raises(ValueError, match='act_layer "quick_gelu" is of mlp_layer "mlp"'):
        vit(**TINY, mlp_layer="swiglu", act_layer="quick_gelu")
    with pytest.raises(ValueError, match=r"reg_tokens 1\.5 is not a number of registers"):
        vit(**TINY, reg_tokens=1.5, no_embed_class=True)


def test_drop_path_grows_linearly_over_the_depth():
    trunk = vit(**TINY | {"depth": 5}, drop_path_rate=0.4).trunk
    assert [layer.drop_path for layer in trunk.blocks] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert [layer.drop_path for layer in vit(**TINY | {"depth": 1}, drop_path_rate=0.4).trunk.blocks] == [0]


def test_every_rate_arrives_at_its_place():
    rates = {"drop_rate": 0.1, "pos_drop_rate": 0.2, "proj_drop_rate": 0.3, "attn_drop_rate": 0.4}
    model = vit(**TINY, **rates, qk_scale=0.7, mlp_ratio=3.0, init_values=1e-5)
    layer = model.trunk.blocks[1]
    assert (model.head_drop, model.trunk.pos_drop.rate) == (0.1, 0.2)
    assert (layer.attn.proj_drop, layer.mlp.drop, layer.attn.attn_drop) == (0.3, 0.3, 0.4)
    assert (layer.attn.qk_scale, layer.mlp.hidden_features, layer.ls1.init_values) == (0.7, 24, 1e-5)


@pytest.mark.parametrize("rate", ["drop_rate", "pos_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate"])
def test_each_rate_alone_makes_the_model_random(rate):
    model, images = vit(**TINY, **{rate: 0.5}), torch.randn(8, 3, 8, 8)
    params = tree.map(lambda p: 20 * p, model.init(key(0)))
    assert model.is_random
    assert not torch.equal(model(params, images, key=key(1)), model(params, images, key=key(2)))
    assert not vit(**TINY).is_random


def test_seeds_start_different_models_and_layers_of_one_model_differ():
    first, second = (tree.flatten(vit(**TINY).init(key(seed))) for seed in (0, 1))
    for name, leaf in first.items():
        assert ("bias" in name and "patch" not in name) or "norm" in name or not torch.equal(leaf, second[name])
    qkv = [first[f"blocks.{i}.attn.qkv.weight"] for i in (0, 1)] + [second["blocks.0.attn.qkv.weight"]]
    assert len({tuple(w.flatten().tolist()) for w in qkv}) == 3


def test_bfloat16_params_and_images_give_bfloat16_logits():
    model = vit(**TINY, drop_path_rate=0.5, proj_drop_rate=0.1)
    params, images = tree.cast(model.init(key(0)), torch.bfloat16), torch.randn(2, 3, 12, 8, dtype=torch.bfloat16)
    assert model(params, images, key=key(1)).dtype == torch.bfloat16
