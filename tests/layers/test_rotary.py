"""Rotary attention against its definition: turned by complex numbers, seen through by scores that know distances."""

import math

import attrs
import pytest
import torch
from torch import nn

from blocks import Attention, Block, RotaryAttention, checkpointed, key, tree, vit
from blocks.layers import rotary
from blocks.layers.compiled import compiled_layers
from blocks.layers.rotary import patch_angles, turned


def start(grid=(2, 3), prefix=1, num_heads=2):
    layer = RotaryAttention(16, num_heads)
    params = tree.map(lambda p: 10 * p.double(), layer.init(key(0)))
    return layer, params, torch.randn(2, prefix + grid[0] * grid[1], 16, dtype=torch.float64)


def by_complex_numbers(heads, grid, prefix):
    """Each pair (i, d/2 + i) of a head as a number, times e^(2 pi i place / period), written patch by patch."""
    half = heads.shape[-1] // 2
    out = heads.clone()
    for n in range(grid[0] * grid[1]):
        places = (2 * (n // grid[1] + 0.5) / grid[0] - 1, 2 * (n % grid[1] + 0.5) / grid[1] - 1)
        for i in range(half):
            axis, wave = divmod(i, half // 2)
            angle = torch.tensor(2 * math.pi * places[axis] / 100 ** (wave / (half // 2)), dtype=torch.float64)
            number = torch.complex(heads[:, :, prefix + n, i], heads[:, :, prefix + n, half + i])
            number = number * torch.polar(torch.ones_like(angle), angle)
            out[:, :, prefix + n, i], out[:, :, prefix + n, half + i] = number.real, number.imag
    return out


@pytest.mark.parametrize("prefix", [0, 3])
def test_it_is_attention_of_turned_queries_and_keys(prefix):
    layer, params, x = start(prefix=prefix)
    q, k, v = nn.functional.linear(x, params["qkv"]["weight"]).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
    q, k = (by_complex_numbers(part, (2, 3), prefix) for part in (q, k))
    weights = (q @ k.mT / 8**0.5).softmax(-1)
    expected = nn.functional.linear((weights @ v).transpose(1, 2).flatten(2), params["proj"]["weight"])
    torch.testing.assert_close(layer(params, x, grid=(2, 3)), expected, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(layer.weights(params, x, grid=(2, 3)), weights, rtol=1e-11, atol=1e-11)


def test_scores_depend_on_the_patches_distance_alone():
    heads = torch.randn(8, dtype=torch.float64).expand(1, 1, 20, 8)
    angles = patch_angles((4, 5), heads, 100.0)
    same = turned(heads, angles.cos(), angles.sin())
    scores = (same @ same.mT)[0, 0].view(4, 5, 4, 5)
    torch.testing.assert_close(scores[:-1, :-1, :-1, :-1], scores[1:, 1:, 1:, 1:])
    assert scores[0, 0].flatten().unique().numel() > 15


def test_a_row_of_patches_spans_the_same_angles_in_a_finer_grid():
    coarse, fine = (patch_angles((n, 1), torch.zeros(8, dtype=torch.float64), 100.0)[:, :2] for n in (3, 9))
    torch.testing.assert_close(coarse, fine[1::3])


def test_its_start_is_that_of_attention():
    plain, rotary = (tree.flatten(layer(16, 2).init(key(0))) for layer in (Attention, RotaryAttention))
    assert plain.keys() == rotary.keys()
    assert all(torch.equal(leaf, rotary[name]) for name, leaf in plain.items())


def test_bfloat16_is_turned_in_float32():
    """In bfloat16 an angle of 6 would be off by .02."""
    x = torch.randn(1, 1, 6, 8)
    angles = patch_angles((2, 3), x.bfloat16(), 100.0)
    assert angles.dtype == torch.float32
    half = turned(x.bfloat16(), angles.cos(), angles.sin())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(
        half, turned(x.bfloat16().float(), angles.cos(), angles.sin()).bfloat16(), rtol=0, atol=0
    )


def tiny(**knobs):
    return vit(img_size=8, patch_size=4, embed_dim=16, depth=3, num_heads=2, num_classes=3, pos_embed="rope", **knobs)


def alone(model):
    """The model with layers that do not tell what they want of the trunk: each makes its own angles."""
    layers = tuple(Alone(layer) for layer in model.trunk.blocks)
    return attrs.evolve(model, trunk=attrs.evolve(model.trunk, blocks=layers))


@attrs.frozen
class Alone(Block):
    inner: Block
    drop_path = 0
    has_dropout = is_random = False

    def init(self, key):
        return self.inner.init(key)

    def __call__(self, params, x, *, key=None, **knobs):
        return self.inner(params, x, key=key, **knobs)


@pytest.mark.parametrize("keep", [None, torch.tensor([[0, 2, 3], [1, 2, 3]])])
@pytest.mark.parametrize(
    "wrapped", [lambda model: model, checkpointed, lambda m: compiled_layers(checkpointed(m), "eager")]
)
def test_a_trunk_makes_the_angles_once_for_all_layers_to_the_bit(keep, wrapped, monkeypatch):
    made = []
    monkeypatch.setattr(rotary, "patch_angles", lambda *given: made.append(given) or patch_angles(*given))
    model, patches = wrapped(tiny()), torch.randn(2, 4, 16)
    params = model.init(key(0))
    tokens = model.trunk.encode(params, patches, grid=(2, 2), keep=keep)
    assert len(made) == 1
    expected = alone(tiny()).trunk.encode(params, patches, grid=(2, 2), keep=keep)
    assert len(made) == 4
    assert torch.equal(tokens, expected)


def test_layers_of_other_temperatures_have_their_own_angles():
    model = tiny()
    other = tuple(
        attrs.evolve(layer, attn=attrs.evolve(layer.attn, temperature=10.0 * (i + 1)))
        for i, layer in enumerate(model.trunk.blocks)
    )
    model = attrs.evolve(model, trunk=attrs.evolve(model.trunk, blocks=other))
    params, x = model.init(key(0)), torch.randn(2, 3, 8, 8)
    assert torch.equal(model(params, x), alone(model)(params, x))


def test_what_cannot_be_turned_is_an_error_with_the_way_out():
    with pytest.raises(
        ValueError, match=r"makes heads 6 wide, and turning pairs in two axes wants .* use embed_dim 16"
    ):
        RotaryAttention(12, 2)
    with pytest.raises(ValueError, match="embed_dim 190 is not a multiple of num_heads 4; 188 and 192 are"):
        RotaryAttention(190, 4)
    layer, params, x = start()
    for grid in (None, (3, 3)):
        with pytest.raises(ValueError, match=r"7 tokens and grid .*give grid=\(height, width\)"):
            layer(params, x, grid=grid)
