import attrs
import pytest
import torch

from blocks import Attention, Block, EncoderLayer, LayerNorm, LayerScale, Mlp, key, tree
from blocks.layers.drop import drop_path_scales
from blocks.layers.encoder import layer_draws
from blocks.random import per_sample


def layer(rate=0.0, drop=0.0, scale=None):
    attn, mlp = Attention(8, 2, proj_drop=drop), Mlp(8, 16, drop)
    return EncoderLayer(LayerNorm(8), attn, LayerNorm(8), mlp, rate, scale, scale)


def start(block):
    return tree.map(lambda p: 10 * p, block.init(key(0))), torch.randn(6, 5, 8)


def written_out(block, params, x, attn_scale=1.0, mlp_scale=1.0):
    x = x + attn_scale * block.attn(params["attn"], block.norm1(params["norm1"], x))
    return x + mlp_scale * block.mlp(params["mlp"], block.norm2(params["norm2"], x))


def test_it_adds_attention_and_mlp_of_the_normalised_tokens():
    params, x = start(layer())
    assert torch.equal(layer()(params, x), written_out(layer(), params, x))


def test_layer_scales_multiply_the_branches():
    scaled, plain = layer(scale=LayerScale(8, 0.5)), layer()
    params = scaled.init(key(0))
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(scaled(params, x), written_out(plain, params, x, 0.5, 0.5))


def test_drop_path_scales_each_sample_s_branches():
    block = layer(rate=0.5)
    params, x = start(block)
    scales = drop_path_scales(key(1), (0.5,), 6)[0][..., None, None]
    expected = written_out(block, params, x, *scales)
    torch.testing.assert_close(block(params, x, key=key(1)), expected)
    torch.testing.assert_close(block(params, x, scales=scales[..., 0, 0]), expected)
    assert 0 < (scales == 0).sum() < 12


@attrs.frozen
class OwnNorm(Block):
    """A norm that no op of ours knows."""

    norm: LayerNorm

    def init(self, key):
        return self.norm.init(key)

    def __call__(self, params, x, *, key=None):
        return self.norm(params, x)


def test_a_norm_of_one_s_own_joins_the_branches_in_the_same_way():
    block = layer(rate=0.5, scale=LayerScale(8, 0.5))
    params, x = start(block)
    own = attrs.evolve(block, norm2=OwnNorm(block.norm2))
    torch.testing.assert_close(own(params, x, key=key(1)), block(params, x, key=key(1)))


@attrs.frozen
class Half(Block):
    """A scale, or a norm, that has no params."""

    def __call__(self, params, x, *, key=None):
        return x / 2


def test_norms_and_scales_may_have_no_params():
    block = attrs.evolve(layer(scale=Half()), norm1=Half())
    params, x = start(block)
    assert params.keys() == {"attn", "norm2", "mlp"}
    written = written_out(block, params | {"norm1": {}}, x, 0.5, 0.5)
    torch.testing.assert_close(block(params, x), written)
    assert block.weights(params, x).shape == (6, 2, 5, 5)
    own = attrs.evolve(block, norm2=Half())
    torch.testing.assert_close(own(params, x), written_out(own, params | {"norm1": {}}, x, 0.5, 0.5))


def test_the_second_norm_has_its_own_eps():
    block = attrs.evolve(layer(), norm2=LayerNorm(8, eps=0.5))
    params, x = start(block)
    torch.testing.assert_close(block(params, x), written_out(block, params, x))


def test_scales_that_the_trunk_drew_are_not_drawn_again():
    block = layer(rate=0.5)
    params, x = start(block)
    scales = torch.full((2, 6), 0.5)
    assert torch.equal(block(params, x, key=key(1), scales=scales), block(params, x, scales=scales))


@pytest.mark.parametrize("part", [{"attn": Attention(8, 2, proj_drop=0.5)}, {"mlp": Mlp(8, 16, 0.5)}])
def test_dropout_of_one_branch_alone_is_had(part):
    block = attrs.evolve(layer(), **part)
    params, x = start(block)
    assert block.has_dropout
    assert block.is_random
    assert not torch.equal(block(params, x, key=key(1)), block(params, x, key=key(2)))
    assert not layer(rate=0.5).has_dropout


def test_a_stack_gives_each_layer_its_row_of_one_table():
    layers, x = (layer(), layer(0.25), layer(0.5)), torch.zeros(6, 5, 8)
    table = drop_path_scales(key(1), (0.0, 0.25, 0.5), 6)
    draws = layer_draws(layers, key(1), x)
    assert [d["key"] for d in draws] == [None] * 3
    assert draws[0]["scales"] is None
    assert all(torch.equal(draws[i]["scales"], table[i]) for i in (1, 2))


def test_layers_with_dropout_get_different_keys_for_each_sample_and_layer():
    draws = layer_draws((layer(drop=0.5),) * 3, per_sample(key(1), 6), torch.zeros(6, 5, 8))
    assert len(torch.cat([d["key"] for d in draws]).unique(dim=0)) == 18


@attrs.frozen
class Noting(Block):
    """A branch of zeros that notes the key it was given."""

    notes: list
    is_random: bool = True

    def __call__(self, params, x, *, grid=None, keep=None, key=None):
        self.notes.append(key)
        return torch.zeros_like(x)


def test_attention_and_mlp_of_a_layer_get_different_keys_for_each_sample():
    notes = []
    block = EncoderLayer(LayerNorm(8), Noting(notes), LayerNorm(8), Noting(notes))
    params = dict.fromkeys(("norm1", "norm2"), LayerNorm(8).init(key(0))) | {"attn": {}, "mlp": {}}
    block(params, torch.randn(6, 5, 8), key=key(1))
    assert len(torch.cat(notes).unique(dim=0)) == 12
