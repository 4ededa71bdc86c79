import pytest
import torch

import blocks
from blocks import Dropout, DropPath, key
from blocks.layers.drop import drop_path_scales, dropout
from blocks.random import per_sample, split


def test_dropout_zeroes_at_its_rate_and_keeps_the_mean():
    x = torch.ones(8, 5000)
    y = Dropout(0.3)({}, x, key=key(0))
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert (y == 0).float().mean() == pytest.approx(0.3, abs=0.01)  # 4.6 deviations of 40,000 draws


def test_two_places_of_one_key_drop_differently():
    x = torch.ones(4, 100)
    assert not torch.equal(dropout(x, 0.5, key(0), place=0), dropout(x, 0.5, key(0), place=1))


def test_dropout_s_gradient_is_its_mask():
    x = torch.randn(4, 9, requires_grad=True)
    y = dropout(x, 0.4, key(0))
    (grad,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(grad, (y != 0) / 0.6)


def test_drop_path_drops_whole_samples_at_each_layer_s_rate():
    rates = (0.0, 0.1, 0.5)
    scales = drop_path_scales(key(0), rates, 20_000)
    assert scales.shape == (3, 2, 20_000)
    for rate, layer in zip(rates, scales, strict=True):
        assert set(layer.unique().tolist()) <= {0.0, torch.tensor(1 / (1 - rate)).item()}
        assert (layer == 0).float().mean().item() == pytest.approx(rate, abs=0.012)


def test_the_two_branches_of_a_layer_drop_independently():
    attention, mlp = drop_path_scales(key(0), (0.5,), 20_000)[0] > 0
    assert (attention & mlp).float().mean() == pytest.approx(0.25, abs=0.015)


def test_a_layer_s_draws_do_not_depend_on_the_layers_after_it():
    short, long = (drop_path_scales(key(0), (0.5,) * depth, 64) for depth in (2, 5))
    assert torch.equal(short, long[:2])


def test_a_sample_s_draws_do_not_depend_on_its_batch():
    keys = per_sample(key(0), 8)
    assert torch.equal(drop_path_scales(keys, (0.5,) * 3, 8)[:, :, 5:], drop_path_scales(keys[5:], (0.5,) * 3, 3))


def test_keys_for_another_batch_are_an_error():
    with pytest.raises(ValueError, match="2 keys for a batch of 3"):
        dropout(torch.zeros(3, 4), 0.5, split(key(0)))


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    x, layer = torch.randn(64, 3, 2, dtype=torch.float64), DropPath(0.25)
    y = layer({}, x, key=key(0))
    kept = (y != 0).flatten(1).any(1)
    assert 0 < kept.sum() < 64
    torch.testing.assert_close(y, x * kept[:, None, None] / 0.75)
    assert torch.equal(layer({}, x), x)
    assert torch.equal(DropPath(0.0)({}, x, key=key(0)), x)


def test_drop_path_keeps_bfloat16():
    x = torch.ones(4, 3, 2, dtype=torch.bfloat16)
    assert DropPath(0.5)({}, x, key=key(0)).dtype == torch.bfloat16


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_a_rate_outside_its_range_is_an_error_where_it_is_written(rate):
    for make in (Dropout, DropPath, lambda r: blocks.Mlp(4, 4, r), lambda r: blocks.Attention(4, 2, attn_drop=r)):
        with pytest.raises(ValueError, match=f"{rate} is not a drop rate"):
            make(rate)


@pytest.mark.parametrize("factory", [blocks.vit, blocks.convit])
def test_a_model_that_drops_nothing_draws_nothing(factory, monkeypatch):
    """Threefry costs hundreds of microseconds a draw: a key must cost nothing where nothing is random."""
    model = factory(img_size=8, patch_size=4, embed_dim=8, num_heads=2, depth=2, **local(factory, 1))
    params = model.init(key(0))
    monkeypatch.setattr("blocks.random.threefry", None)
    model(params, torch.zeros(2, 3, 8, 8), key=key(0))


@pytest.mark.parametrize("factory", [blocks.vit, blocks.convit])
def test_drop_path_of_all_layers_is_one_draw(factory, monkeypatch):
    """One fold for the samples' keys and one table, however deep."""
    size = {"img_size": 8, "patch_size": 4, "embed_dim": 8, "num_heads": 2}
    model = factory(**size, depth=4, drop_path_rate=0.5, **local(factory, 3))
    params, draws = model.init(key(0)), []
    threefry = blocks.random.threefry
    monkeypatch.setattr("blocks.random.threefry", lambda *a: draws.append(a) or threefry(*a))
    model(params, torch.zeros(2, 3, 8, 8), key=key(0))
    assert len(draws) == 2


def local(factory, layers):
    return {"local_up_to_layer": layers} if factory is blocks.convit else {}
