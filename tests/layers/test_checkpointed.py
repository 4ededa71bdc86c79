"""Activation checkpointing: the same numbers from less memory."""

import attrs
import pytest
import torch

from blocks import convit, key, tree, vit
from blocks.layers.checkpointed import Checkpointed, checkpointed
from blocks.layers.compiled import compiled_layers
from blocks.layers.encoder import inner
from blocks.layers.linear import Linear

TINY = {"img_size": 8, "patch_size": 2, "num_classes": 5, "embed_dim": 16, "num_heads": 2, "depth": 4}
DROPS = {"proj_drop_rate": 0.2, "attn_drop_rate": 0.2, "drop_path_rate": 0.5}
MODELS = {"vit": vit(**TINY, **DROPS), "convit": convit(**TINY, **DROPS, local_up_to_layer=2)}
IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def value_and_gradient(model, params, a_key):
    leaves = tree.map(lambda p: p.detach().requires_grad_(), params)
    value = model(leaves, IMAGES, key=a_key).square().sum()
    return value, torch.autograd.grad(value, tree.leaves(leaves))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("a_key", [None, key(1)], ids=["without a key", "with a key"])
def test_params_values_and_gradients_are_the_same_bit_for_bit(name, a_key):
    plain, saving = MODELS[name], checkpointed(MODELS[name])
    params = plain.init(key(0))
    assert tree.flatten(saving.init(key(0))).keys() == tree.flatten(params).keys()
    assert all(torch.equal(a, b) for a, b in zip(tree.leaves(saving.init(key(0))), tree.leaves(params), strict=True))
    random_state = torch.get_rng_state()
    one, other = value_and_gradient(plain, params, a_key), value_and_gradient(saving, params, a_key)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.equal(one[0], other[0])
    assert all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))
    with torch.no_grad():
        assert torch.equal(plain(params, IMAGES), saving(params, IMAGES))


def saved_bytes(model):
    """What the forward pass keeps for the backward pass, without the params."""
    params = tree.map(torch.Tensor.requires_grad_, model.init(key(0)))
    ours, kept = {p.data_ptr() for p in tree.leaves(params)}, {}

    def pack(t):
        kept[t.data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = model(params, IMAGES, key=key(1))  # noqa: F841 (alive, as what it keeps)
    return sum(size for place, size in kept.items() if place not in ours)


@pytest.mark.parametrize("name", MODELS)
def test_less_is_kept_the_more_layers_are_checkpointed(name):
    model = MODELS[name]
    whole, second, every = (saved_bytes(m) for m in (model, checkpointed(model, every=2), checkpointed(model)))
    assert every < 0.25 * whole
    assert second == pytest.approx((whole + every) / 2, rel=0.1)


def test_every_says_which_layers_and_the_last_word_counts():
    def wrapped(model):
        return [isinstance(layer, Checkpointed) for layer in model.trunk.blocks]

    model = checkpointed(MODELS["vit"], every=3)
    assert wrapped(model) == [True, False, False, True]
    assert wrapped(checkpointed(model, every=2)) == [True, False, True, False]
    assert checkpointed(checkpointed(MODELS["vit"])) == checkpointed(MODELS["vit"])


def test_what_cannot_be_checkpointed_is_refused():
    with pytest.raises(ValueError, match="every 0"):
        checkpointed(MODELS["vit"], every=0)
    with pytest.raises(ValueError, match=r"Linear has no encoder layers at trunk\.blocks"):
        checkpointed(Linear(2, 2))


def test_what_stands_in_a_layer_s_place_holds_it():
    layer = vit(depth=1, embed_dim=8, num_heads=2).trunk.blocks[0]
    compiled = compiled_layers(layer, backend="eager")
    for held in (layer, compiled, Checkpointed(layer), attrs.evolve(compiled, layer=Checkpointed(layer))):
        assert inner(held) is layer
    assert inner("no layer") == "no layer"
