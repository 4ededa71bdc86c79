"""A module of ours gives features as timm's model of the same weights does, by the same calls."""

import pytest
import torch
from timm.models.convit import ConVit
from timm.models.deit import VisionTransformerDistilled

from blocks import convit, distilled, from_timm, intermediate_layers, key, mae_decoder, to_module, vit
from tests.interop.timms import CONVIT, VIT, images, timms, timms_convit

PAIRS = {
    "vit": (lambda: vit(**VIT), timms),
    "vit, mean": (lambda: vit(**VIT, global_pool="avg"), lambda: timms(global_pool="avg")),
    "vit, scaled": (lambda: vit(**VIT, init_values=0.1), lambda: timms(init_values=0.1)),
    "deit": (lambda: distilled(vit(**VIT)), lambda: timms(VisionTransformerDistilled)),
    "convit": (lambda: convit(**CONVIT), timms_convit),
}
ARGUMENTS = [
    {},
    {"indices": 1},
    {"indices": (0,)},
    {"indices": [-1, 0]},
    {"norm": True},
    {"output_fmt": "NLC", "return_prefix_tokens": True},
    {"return_prefix_tokens": True, "indices": [-2]},
]


@pytest.fixture(scope="module", params=PAIRS)
def pair(request):
    """(our module, timm's)."""
    ours, theirs = (make() for make in PAIRS[request.param])
    return to_module(ours, from_timm(ours, theirs.state_dict())).eval(), theirs


def assert_close(found, expected):
    """The same tensors in the same lists and tuples, to float32's last bits."""
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)


def test_features_and_heads_are_timms(pair):
    ours, theirs = pair
    tokens = theirs.forward_features(images())
    assert_close(ours.forward_features(images()), tokens)
    assert_close(ours.forward_head(tokens), theirs.forward_head(tokens))
    assert_close(ours.forward_head(tokens, pre_logits=True), theirs.forward_head(tokens, pre_logits=True))


def test_features_and_head_are_the_whole_model_and_its_sizes_bear_timms_names(pair):
    ours, theirs = pair
    assert torch.equal(ours.forward_head(ours.forward_features(images())), ours(images()))
    assert (ours.embed_dim, ours.num_features) == (theirs.embed_dim, theirs.num_features)
    assert ours.num_prefix_tokens == getattr(theirs, "num_prefix_tokens", 1)


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_intermediate_layers_are_timms(pair, arguments):
    ours, theirs = pair
    if isinstance(theirs, ConVit) and "return_prefix_tokens" in arguments:
        pytest.skip("timm's ConViT does not give prefix tokens")
    expected = theirs.forward_intermediates(images(), **arguments)
    assert_close(ours.forward_intermediates(images(), **arguments), expected)
    assert_close(ours.forward_intermediates(images(), **arguments, intermediates_only=True), expected[1])


@pytest.mark.parametrize("arguments", [{}, {"n": [0], "norm": True}, {"n": 2, "reshape": True}], ids=str)
def test_dino_s_call_is_timms(arguments):
    ours, theirs = (make() for make in PAIRS["vit"])
    module = to_module(ours, from_timm(ours, theirs.state_dict()))
    expected = theirs.get_intermediate_layers(images(), **arguments)
    assert_close(list(module.get_intermediate_layers(images(), **arguments)), list(expected))


def test_hooks_on_layers_see_what_hooks_on_timms_layers_see(pair):
    ours, theirs = pair
    seen = {ours: [], theirs: []}
    handles = [
        layer.register_forward_hook(lambda layer, x, y, model=model: seen[model].append(y))
        for model in pair
        for layer in model.blocks
    ]
    for model in pair:
        model(images())
    for handle in handles:
        handle.remove()
    assert len(seen[ours]) == len(theirs.blocks)
    assert_close(seen[ours], seen[theirs])


def test_before_its_class_token_joins_a_convit_has_no_prefix():
    model = convit(**{**CONVIT, "depth": 3, "local_up_to_layer": 2})
    found = intermediate_layers(model, model.init(key(0)), images(), return_prefix_tokens=True)
    assert [prefix.shape[1] for _, prefix in found] == [0, 1, 1]


def test_maps_keep_the_images_shape():
    model = vit(**VIT)
    (found,) = intermediate_layers(model, model.init(key(0)), images()[..., :8], 1)
    assert found.shape == (2, 12, 4, 2)


def test_gradients_reach_the_layers_before_and_no_other():
    model = vit(**VIT)
    module = to_module(model, model.init(key(0)))
    module.forward_intermediates(images(), [0], intermediates_only=True)[0].sum().backward()
    assert module.blocks[0].mlp.fc2.weight.grad is not None
    assert module.blocks[1].mlp.fc2.weight.grad is None


def test_in_training_features_and_heads_draw():
    model = vit(**VIT, drop_path_rate=0.5, drop_rate=0.5)
    params = model.init(key(0))
    module = to_module(model, params)
    assert torch.equal(module.forward_features(images(), key=key(1)), model.trunk(params, images(), key=key(1)))
    torch.manual_seed(0)
    tokens, again = module.forward_features(images()), module.forward_features(images())
    assert not torch.equal(tokens, again)
    assert not torch.equal(module.forward_head(tokens), module.forward_head(tokens))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"indices": 3}, "the last 3 layers are not among 2"),
        ({"indices": 0}, "the last 0 layers"),
        ({"indices": (0, 2, -3)}, r"layers \[2, -3\] are not among 2; use 0 to 1"),
        ({"output_fmt": "NHWC"}, "'NHWC' is not known; use \"NCHW\""),
    ],
)
def test_what_is_not_there_is_an_error(arguments, message):
    model = vit(**VIT)
    with pytest.raises(ValueError, match=message):
        intermediate_layers(model, model.init(key(0)), images(), **arguments)


def test_what_is_no_model_has_no_such_methods():
    model = vit(**VIT)
    decoder = mae_decoder(model, embed_dim=8, depth=1, num_heads=2)
    assert not hasattr(to_module(decoder, decoder.init(key(0))), "forward_features")
    assert not hasattr(to_module(model.trunk, model.trunk.init(key(0))), "forward_head")
