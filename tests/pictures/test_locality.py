import json
import math

import pytest
import torch

from blocks import GPSA, convit, from_module, key, tree, vit
from blocks.pictures.attention import attention_maps
from blocks.pictures.locality import attention_distance, distances, gates, mean_distance, nonlocality
from blocks.pictures.vitals import vitals
from tests.pictures.test_attention_maps import MODELS, SMALL, disturbed, images, layer_norm, weights_by_hand


def test_distances_are_those_between_the_patches_of_a_grid():
    found = distances((3, 4))
    for i in range(12):
        for j in range(12):
            assert found[i, j] == pytest.approx(math.dist(divmod(i, 4), divmod(j, 4)))


@pytest.mark.parametrize(
    ("num_heads", "by_head"), [(9, {0.76: 1, 1.17: 4, 1.48: 4}), (16, {0.99: 4, 1.60: 8, 2.06: 4})]
)
def test_heads_start_at_the_published_distances_by_position(num_heads, by_head):
    layer = GPSA(6 * num_heads, num_heads)
    looked = mean_distance(layer.position_weights(layer.init(key(0)), (14, 14)), (14, 14))
    wanted = sorted(distance for distance, heads in by_head.items() for _ in range(heads))
    assert sorted(looked.tolist()) == pytest.approx(wanted, abs=0.01)


def test_random_tokens_start_at_the_published_distance_by_the_gated_weights():
    """2.88 patches for 9 heads of N(0, 1) tokens on a 14 x 14 grid, measured on the official layer."""
    layer = GPSA(432, 9)
    tokens = torch.randn(2, 196, 432, generator=torch.Generator().manual_seed(0))
    looked = mean_distance(layer.weights(layer.init(key(0)), tokens, grid=(14, 14)), (14, 14))
    assert looked.mean() == pytest.approx(2.88, abs=0.02)


@pytest.mark.parametrize("name", MODELS)
def test_a_layer_s_distance_is_measured_on_the_tokens_that_reach_it(name):
    """Written out patch by patch, from weights by hand; not on the patch embedding, as the official log has it."""
    model, params, grid = MODELS[name], disturbed(MODELS[name]), (3, 4)
    found, tokens = attention_distance(model, params, images()), model.trunk.intermediate_tokens(params, images())
    for i, layer in enumerate(model.trunk.blocks):
        x = layer_norm(params["blocks"][str(i)]["norm1"], tokens[i])
        for h in range(4):
            sums = []
            for one in x:
                weights = weights_by_hand(layer.attn, params["blocks"][str(i)]["attn"], one, grid)[h, -12:, -12:]
                for a in range(12):
                    steps = [math.dist(divmod(a, 4), divmod(b, 4)) for b in range(12)]
                    sums.append(
                        sum(w * s for w, s in zip(weights[a].tolist(), steps, strict=True)) / float(weights[a].sum())
                    )
            assert float(found[i, h]) == pytest.approx(sum(sums) / len(sums), abs=1e-6)  # distances are float32
    torch.testing.assert_close(nonlocality(model, params, images()), found.mean(1))


def test_what_the_class_token_takes_has_no_distance():
    weights = torch.full((1, 1, 5, 5), 0.1)
    weights[..., 0] = 0.6
    assert mean_distance(weights, (2, 2)).item() == pytest.approx((2 + 2**0.5) / 4)
    weights[..., 1:] = 0
    assert mean_distance(weights, (2, 2)).item() == 0


def test_gates_are_in_order_of_depth_whatever_the_order_of_the_params():
    params = convit(**SMALL | dict(depth=12), local_up_to_layer=11).init(key(0))
    for i in range(11):
        params["blocks"][str(i)]["attn"]["gating_param"] = torch.full((4,), float(i))
    params["blocks"] = {name: params["blocks"][name] for name in sorted(params["blocks"])}  # "10" before "2"
    torch.testing.assert_close(gates(params), torch.arange(11.0).sigmoid()[:, None].expand(11, 4))
    assert gates(vit(**SMALL).init(key(0))).shape == (0, 0)


def test_vitals_are_what_json_takes_and_say_which_layers_have_gates():
    model = MODELS["convit"]
    params = disturbed(model)
    found = json.loads(json.dumps(vitals(model, params, images())))
    assert found["gated_layers"] == [0, 1]
    torch.testing.assert_close(torch.tensor(found["gates"]).double(), gates(params), rtol=0, atol=1e-6)
    assert found["attention_distance"] == attention_distance(model, params, images()).tolist()
    assert found["nonlocality"] == pytest.approx(nonlocality(model, params, images()).tolist())
    assert (found["grid"], found["patch_size"]) == ([3, 4], 4)


def test_without_attention_there_are_no_vitals_and_without_gates_no_gates():
    block, params = from_module(torch.nn.Linear(2, 2))
    assert vitals(block, params, images()) == {}
    assert vitals(MODELS["vit"], disturbed(MODELS["vit"]), images())["gates"] == []


def test_looking_leaves_params_images_and_gradients_alone():
    model = MODELS["convit"]
    params, shown = disturbed(model), images()
    before = tree.clone(params)
    leaves = tree.map(lambda t: t.requires_grad_(), params)
    vitals(model, leaves, shown)
    assert all(not w.requires_grad for w in attention_maps(model, leaves, shown).values())
    assert all(torch.equal(a, b) for a, b in zip(tree.leaves(before), tree.leaves(params), strict=True))
