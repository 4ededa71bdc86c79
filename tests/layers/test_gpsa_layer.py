"""The golden values are those of the official local initialisation."""

import pytest
import torch
from timm.models.convit import GPSA as TimmGPSA

from blocks import GPSA, Attention, key, tree
from blocks.layers.gpsa import local_positions
from blocks.ops.gpsa import position_attention
from blocks.random import normal

GRID = (14, 14)


def position_map(num_heads, grid=GRID, strength=1.0):
    """Positional attention at the start, [h, H, W, H, W]."""
    params = GPSA(6 * num_heads, num_heads, locality_strength=strength).init(key(0))["pos_proj"]
    rows, cols = position_attention(params["weight"], params["bias"], grid)
    return torch.einsum("hab,hcd->hacbd", rows, cols)


def mean_distances(num_heads):
    """Mean distance that each head looks, averaged over queries, borders included."""
    y, x = torch.meshgrid(torch.arange(14.0), torch.arange(14.0), indexing="ij")
    distance = ((y[:, :, None, None] - y) ** 2 + (x[:, :, None, None] - x) ** 2).sqrt()
    return (position_map(num_heads) * distance).sum((3, 4)).mean((1, 2))


def test_it_starts_with_v_the_identity_and_gates_of_731():
    params = GPSA(36, 9).init(key(0))
    assert torch.equal(params["v"]["weight"], torch.eye(36))
    assert params["gating_param"].sigmoid().tolist() == pytest.approx([0.7311] * 9, abs=1e-4)
    assert not params["pos_proj"]["bias"].any()


def test_each_of_nine_heads_gives_318_to_its_own_neighbour():
    maps = position_map(9)[:, 7, 7]
    targets = {tuple(divmod(int(m.flatten().argmax()), 14)) for m in maps}
    assert targets == {(7 + dy, 7 + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
    assert maps.flatten(1).amax(1).tolist() == pytest.approx([0.3182] * 9, abs=1e-4)


def test_each_of_sixteen_heads_gives_193_to_the_four_patches_around_its_target():
    nearest = position_map(16)[:, 7, 7].flatten(1).topk(5).values
    assert nearest[:, :4].flatten().tolist() == pytest.approx([0.193] * 64, abs=5e-4)
    assert (nearest[:, 4] < 0.1).all()


def test_the_mean_distances_of_nine_and_sixteen_heads_are_the_official_ones():
    nine, sixteen = mean_distances(9), mean_distances(16)
    assert nine.mean() == pytest.approx(1.262, abs=1e-3)
    assert sixteen.mean() == pytest.approx(1.562, abs=1e-3)
    assert sorted({round(d, 2) for d in nine.tolist()}) == pytest.approx([0.76, 1.17, 1.48], abs=0.011)
    assert sorted({round(d, 2) for d in sixteen.tolist()}) == pytest.approx([0.99, 1.60, 2.06], abs=0.011)


@pytest.mark.parametrize("num_heads", [1, 4, 9, 16])
@pytest.mark.parametrize("strength", [1.0, 0.25])
def test_square_head_counts_start_as_timm_s(num_heads, strength):
    timms = TimmGPSA(4 * num_heads, num_heads, locality_strength=strength)
    timms.local_init()
    assert torch.equal(local_positions(num_heads, strength), timms.pos_proj.weight.detach())


@pytest.mark.parametrize(("num_heads", "shape"), [(2, (1, 2)), (3, (1, 3)), (6, (2, 3)), (8, (2, 4)), (12, (3, 4))])
def test_other_head_counts_fill_the_most_square_rectangle(num_heads, shape):
    """Every head has a target of its own, and the targets are centred on the query."""
    targets = local_positions(num_heads, 1.0)[:, :2] / 2  # dx, dy
    assert len({tuple(t) for t in targets.tolist()}) == num_heads
    assert tuple(len(axis.unique()) for axis in (targets[:, 1], targets[:, 0])) == shape
    assert targets.mean(0).tolist() == [0, 0]


def test_without_local_initialisation_it_starts_at_random():
    params = GPSA(36, 9, locality_strength=None).init(key(0))
    assert params["v"]["weight"].std() == pytest.approx(0.02, rel=0.1)
    assert params["pos_proj"]["weight"].abs().max() < 0.1


@pytest.mark.parametrize("strength", [0.0, -1.0, float("nan"), float("inf")])
def test_a_strength_that_centres_no_head_is_refused(strength):
    with pytest.raises(ValueError, match=f"locality_strength {strength} is not above 0"):
        GPSA(36, 9, locality_strength=strength)


@pytest.mark.parametrize("side", [1, 4])
def test_it_equals_timm_s_layer_in_values_and_gradients(side):
    ours, timms = GPSA(12, 3), TimmGPSA(12, 3).double()
    x = torch.randn(2, side * side, 12, dtype=torch.float64)
    with torch.no_grad():
        for p in timms.parameters():
            p.copy_(torch.randn_like(p))
    params = tree.map(lambda p: p.requires_grad_(), tree.unflatten(tree.clone(timms.state_dict())))
    y, expected = ours(params, x, grid=(side, side)), timms(x)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    leaves = tree.flatten(params)
    grads = torch.autograd.grad(y.square().sum(), list(leaves.values()))
    expected_grads = torch.autograd.grad(expected.square().sum(), [timms.get_parameter(n) for n in leaves])
    torch.testing.assert_close(grads, expected_grads, rtol=1e-10, atol=1e-10)


def test_a_class_token_attends_and_is_attended_by_content_alone():
    """With a closed gate the token's row is plain attention; with a gate all open the patches do not see the token."""
    layer, plain = GPSA(8, 2, locality_strength=None), Attention(8, 2, qkv_bias=False)
    params = tree.map(lambda p: 20 * p, layer.init(key(0)))
    qkv = {"weight": torch.cat((params["qk"]["weight"], params["v"]["weight"]))}
    x, other = torch.randn(2, 7, 8), torch.randn(2, 1, 8)
    content = plain({"qkv": qkv, "proj": params["proj"]}, x)
    torch.testing.assert_close(layer(params, x, grid=(2, 3))[:, 0], content[:, 0])
    position_only = params | {"gating_param": torch.full((2,), 100.0)}
    seen, unseen = (layer(position_only, torch.cat((t, x[:, 1:]), 1), grid=(2, 3)) for t in (x[:, :1], other))
    torch.testing.assert_close(seen[:, 1:], unseen[:, 1:])
    assert not torch.allclose(seen[:, 0], unseen[:, 0])


def test_the_bias_of_the_position_gets_no_gradient_at_all():
    layer = GPSA(8, 2)
    params = tree.map(lambda p: p.requires_grad_(), layer.init(key(0)))
    out = layer(params, torch.randn(2, 6, 8), grid=(2, 3)).square().sum()
    assert torch.equal(torch.autograd.grad(out, params["pos_proj"]["bias"])[0], torch.zeros(2))


def test_a_missing_or_wrong_grid_is_an_error():
    layer = GPSA(8, 2)
    params, x = layer.init(key(0)), torch.randn(2, 6, 8)
    with pytest.raises(ValueError, match="give grid="):
        layer(params, x)
    with pytest.raises(ValueError, match="6 tokens"):
        layer(params, x, grid=(3, 3))


@pytest.mark.parametrize("k", [None, key(2)], ids=["free", "dropped"])
def test_all_places_kept_are_the_whole_grid_with_a_scale_of_one_s_own_and_weights_dropped(k):
    layer = GPSA(8, 2, qk_scale=0.9, attn_drop=0.5, locality_strength=None)
    params = tree.map(lambda p: p + 0.3, tree.cast(layer.init(key(0)), torch.float64))
    x, keep = normal(key(1), (3, 1 + 6, 8), torch.float64), torch.arange(6).expand(3, -1)
    whole, some = (layer(params, x, grid=(2, 3), key=k, **knobs) for knobs in ({}, {"keep": keep}))
    torch.testing.assert_close(some, whole)
    v = layer.v(params["v"], x).unflatten(2, (2, 4)).transpose(1, 2)
    free = layer.proj(params["proj"], (layer.weights(params, x, grid=(2, 3)) @ v).transpose(1, 2).flatten(2))
    assert torch.allclose(whole, free) == (k is None)
