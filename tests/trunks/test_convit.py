import math

import attrs
import pytest
import torch

from blocks import GPSA, Attention, ConViT, convit, convit_small, key, tree, vit

TINY = {"img_size": 8, "patch_size": 4, "num_classes": 5, "embed_dim": 8, "num_heads": 2, "depth": 3}


def start(images=(2, 3, 8, 8), **knobs):
    model = convit(**TINY | {"local_up_to_layer": 2} | knobs)
    return model, model.init(key(0)), torch.randn(images)


@pytest.mark.parametrize("local", [0, 1, 2, 3])
@pytest.mark.parametrize("in_local_layers", [True, False])
def test_local_layers_come_first_and_the_class_token_always_comes(local, in_local_layers):
    knobs = {"local_up_to_layer": local, "class_token_in_local_layers": in_local_layers, "global_pool": "avg"}
    model, params, images = start(**knobs)
    kinds = [type(layer.attn) for layer in model.trunk.blocks]
    assert kinds == [GPSA] * local + [Attention] * (3 - local)
    assert model.trunk.cls_layer == (0 if in_local_layers else local)
    assert model.trunk(params, images).shape == (2, 5, 8)
    assert model(params, images).shape == (2, 5)
    other = params | {"cls_token": params["cls_token"] + 1}
    assert not torch.equal(model.trunk(params, images)[:, 0], model.trunk(other, images)[:, 0])


def test_a_class_token_in_the_local_layers_meets_them():
    """Before layer 0 the token reads the patches through GPSA, so all layers' content keys reach it."""
    model, params, images = start(class_token_in_local_layers=True, local_up_to_layer=3)
    params = tree.map(lambda p: p.requires_grad_(), params)
    grads = torch.autograd.grad(model(params, images).square().sum(), params["blocks"]["0"]["attn"]["qk"]["weight"])
    assert grads[0].any()


def test_a_class_token_that_never_sees_the_image_is_an_error():
    with pytest.raises(ValueError, match="leaves no layer in which the class token sees the image"):
        convit(**TINY, local_up_to_layer=3)
    with pytest.raises(ValueError, match="local_up_to_layer 4 is not among the 3 layers; use 0 to 3"):
        convit(**TINY, local_up_to_layer=4)
    with pytest.raises(ValueError, match=r"local_up_to_layer 1\.5 is not among the 3 layers; use 0 to 3"):
        convit(**TINY, local_up_to_layer=1.5)


def test_a_locality_strength_that_is_no_number_is_an_error():
    with pytest.raises(ValueError, match="locality_strength nan is not above 0"):
        convit(**TINY, locality_strength=math.nan, local_up_to_layer=1)


@pytest.mark.parametrize("layer", [-1, 4, 0.5])
def test_a_class_token_that_would_join_before_no_layer_is_refused(layer):
    trunk = convit(**TINY, local_up_to_layer=2).trunk
    with pytest.raises(ValueError, match=f"cls_layer {layer} is not among the 3 layers; use 0 to 3"):
        attrs.evolve(trunk, cls_layer=layer)


def test_without_a_class_token_there_are_patches_alone():
    model, params, images = start(class_token=False, global_pool="avg")
    assert "cls_token" not in params
    assert model.trunk(params, images).shape == (2, 4, 8)


@pytest.mark.parametrize("grid", [(2, 2), (3, 2), (5, 7)])
@pytest.mark.parametrize("in_local_layers", [True, False])
@pytest.mark.parametrize("attn_drop_rate", [0.0, 0.1])
def test_it_takes_images_of_any_size_that_patches_tile(grid, in_local_layers, attn_drop_rate):
    knobs = {"class_token_in_local_layers": in_local_layers, "attn_drop_rate": attn_drop_rate}
    model, params, images = start((2, 3, 4 * grid[0], 4 * grid[1]), **knobs)
    assert model.trunk(params, images, key=key(1)).shape == (2, 1 + grid[0] * grid[1], 8)


def test_a_model_of_non_square_images_has_a_non_square_position_embedding():
    model, params, images = start((2, 3, 8, 12), img_size=(8, 12))
    assert params["pos_embed"].shape == (1, 6, 8)
    assert model(params, images).shape == (2, 5)


def test_position_and_layer_scale_are_knobs():
    _, params, _ = start(use_pos_embed=False, init_values=0.1)
    assert "pos_embed" not in params
    assert torch.equal(params["blocks"]["0"]["ls1"]["gamma"], torch.full((8,), 0.1))


def test_local_initialisation_survives_model_building():
    params = convit_small(img_size=32, depth=3, local_up_to_layer=2).init(key(0))
    for i in ("0", "1"):
        attn = params["blocks"][i]["attn"]
        assert torch.equal(attn["v"]["weight"], torch.eye(432))
        assert torch.equal(attn["pos_proj"]["weight"][:, 2], torch.full((9,), -1.0))
    assert "v" not in params["blocks"]["2"]["attn"]


def test_local_initialisation_can_be_left_out():
    _, params, _ = start(use_local_init=False)
    assert not torch.equal(params["blocks"]["0"]["attn"]["v"]["weight"], torch.eye(8))


@pytest.mark.parametrize(("strength", "by_layer"), [(0.5, [0.5, 0.5]), (0.0, [1.0, 0.5]), (-1.0, [1.0, 0.5])])
def test_a_strength_of_zero_or_less_falls_with_depth(strength, by_layer):
    _, params, _ = start(locality_strength=strength)
    weights = [params["blocks"][str(i)]["attn"]["pos_proj"]["weight"] for i in (0, 1)]
    assert [-w[0, 2].item() for w in weights] == by_layer


def test_without_local_layers_it_is_a_vit_whose_class_token_has_no_position():
    model, params, images = start(local_up_to_layer=0)
    twin = vit(**TINY, qkv_bias=False)
    position = torch.cat((torch.zeros(1, 1, 8), params["pos_embed"]), 1)
    assert isinstance(model.trunk, ConViT)
    torch.testing.assert_close(model(params, images), twin(params | {"pos_embed": position}, images))


@pytest.mark.parametrize("rate", ["drop_rate", "pos_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate"])
def test_each_rate_alone_makes_the_model_random(rate):
    model, params, images = start((8, 3, 8, 8), **{rate: 0.5})
    params = tree.map(lambda p: 20 * p, params)
    assert not torch.equal(model(params, images, key=key(1)), model(params, images, key=key(2)))


def test_bfloat16_params_and_images_give_bfloat16_logits():
    model, params, images = start(drop_path_rate=0.5, class_token_in_local_layers=True)
    assert model(tree.cast(params, torch.bfloat16), images.bfloat16(), key=key(1)).dtype == torch.bfloat16
