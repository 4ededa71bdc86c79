"""timm is the semantic reference: with its weights, its numbers."""

from functools import partial

import pytest
import timm
import torch
from timm.layers import SwiGLUPacked
from timm.models.convit import ConVit
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import blocks
from blocks import from_timm, key, to_timm, tree
from blocks.optim.sgd import sgd
from blocks.trunks.distilled import distilled
from blocks.trunks.vit_variants import deit_tiny_distilled


def distilled_vit(**knobs):
    return distilled(blocks.vit(**knobs))


def clip(**knobs):
    return blocks.vit(**knobs, pre_norm=True, norm_eps=1e-5)


def gated(**knobs):
    return blocks.vit(**knobs, mlp_layer="swiglu", mlp_ratio=2.66667)


TIMMS_GATED = {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU, "mlp_ratio": 2 * 2.66667}  # as of DINOv2's giant
TIMMS_CLIP = {"pre_norm": True, "norm_layer": partial(nn.LayerNorm, eps=1e-5)}
TINY = {"img_size": 16, "patch_size": 4, "num_classes": 5, "depth": 3}
PAIRS = {
    "vit": (VisionTransformer, blocks.vit, {"embed_dim": 12, "num_heads": 3}, {}),
    "vit without qkv bias": (VisionTransformer, blocks.vit, {"embed_dim": 12, "num_heads": 3, "qkv_bias": False}, {}),
    "vit with layer scale": (VisionTransformer, blocks.vit, {"embed_dim": 12, "num_heads": 3, "init_values": 0.1}, {}),
    "vit, mean": (VisionTransformer, blocks.vit, {"embed_dim": 12, "num_heads": 3, "global_pool": "avg"}, {}),
    "vit, mean, no class token": (
        *(VisionTransformer, blocks.vit),
        *({"embed_dim": 12, "num_heads": 3, "global_pool": "avg", "class_token": False}, {}),
    ),
    "vit with registers": (
        *(VisionTransformer, blocks.vit),
        *({"embed_dim": 12, "num_heads": 3, "init_values": 0.1, "reg_tokens": 4, "no_embed_class": True}, {}),
    ),
    "vit with registers alone": (
        *(VisionTransformer, blocks.vit),
        {"embed_dim": 12, "num_heads": 3, "reg_tokens": 2, "no_embed_class": True, "class_token": False}
        | {"global_pool": "avg"},
        {},
    ),
    "vit whose class token has no position": (
        *(VisionTransformer, blocks.vit),
        *({"embed_dim": 12, "num_heads": 3, "no_embed_class": True}, {}),
    ),
    "clip": (VisionTransformer, clip, {"embed_dim": 12, "num_heads": 3}, TIMMS_CLIP),
    "clip, mean": (VisionTransformer, clip, {"embed_dim": 12, "num_heads": 3, "global_pool": "avg"}, TIMMS_CLIP),
    "clip of OpenAI": (
        *(VisionTransformer, clip, {"embed_dim": 12, "num_heads": 3, "act_layer": "quick_gelu"}, TIMMS_CLIP),
    ),
    "vit, mean of normed tokens": (
        *(VisionTransformer, blocks.vit),
        *({"embed_dim": 12, "num_heads": 3, "global_pool": "avg", "fc_norm": False}, {}),
    ),
    "siglip without its pool": (
        *(VisionTransformer, blocks.vit),
        {"embed_dim": 12, "num_heads": 3, "class_token": False, "global_pool": "avg", "fc_norm": False}
        | {"act_layer": "gelu_tanh"},
        {},
    ),
    "siglip": (
        *(VisionTransformer, blocks.vit),
        *({"embed_dim": 12, "num_heads": 3, "class_token": False, "global_pool": "map", "mlp_ratio": 3.0}, {}),
    ),
    "siglip with gelu_tanh and no head": (
        *(VisionTransformer, blocks.vit),
        {"embed_dim": 12, "num_heads": 3, "class_token": False, "global_pool": "map", "act_layer": "gelu_tanh"}
        | {"num_classes": 0},
        {},
    ),
    "class token and registers, pooled by attention": (
        *(VisionTransformer, blocks.vit),
        *({"embed_dim": 12, "num_heads": 3, "global_pool": "map", "reg_tokens": 2, "no_embed_class": True}, {}),
    ),
    "vit with gated MLPs": (VisionTransformer, gated, {"embed_dim": 12, "num_heads": 3}, TIMMS_GATED),
    "vit, no head": (VisionTransformer, blocks.vit, {"embed_dim": 12, "num_heads": 3, "num_classes": 0}, {}),
    "vit, wide images": (VisionTransformer, blocks.vit, {"embed_dim": 12, "num_heads": 3, "img_size": (8, 20)}, {}),
    "distilled": (VisionTransformerDistilled, distilled_vit, {"embed_dim": 12, "num_heads": 3}, {}),
    "distilled, no head": (
        *(VisionTransformerDistilled, distilled_vit),
        *({"embed_dim": 12, "num_heads": 3, "num_classes": 0}, {}),
    ),
    # timm's width of a convit is per head
    "convit": (ConVit, blocks.convit, {"num_heads": 4, "local_up_to_layer": 2}, {"embed_dim": 4}),
    "convit, no local layers": (ConVit, blocks.convit, {"num_heads": 4, "local_up_to_layer": 0}, {"embed_dim": 4}),
    "convit with bias": (
        *(ConVit, blocks.convit, {"num_heads": 4, "local_up_to_layer": 2, "qkv_bias": True}),
        {"embed_dim": 4},
    ),
    "convit, mean": (
        *(ConVit, blocks.convit, {"num_heads": 4, "local_up_to_layer": 2, "global_pool": "avg"}),
        {"embed_dim": 4},
    ),
    "convit without positions": (
        *(ConVit, blocks.convit, {"num_heads": 4, "local_up_to_layer": 2, "use_pos_embed": False}),
        {"embed_dim": 4},
    ),
}
every_pair = pytest.mark.parametrize("name", PAIRS)


def pair(name, dtype=torch.float32):
    """timm's model with no parameter left at 0 or 1, and ours of the same shape."""
    timms_class, factory, knobs, timms_knobs = PAIRS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = timms_class(**TINY | knobs | timms_knobs)
        with torch.no_grad():
            for p in theirs.parameters():
                p.add_(0.1 * torch.randn_like(p))
    ours = factory(**TINY | knobs | ({"embed_dim": 16} if factory is blocks.convit else {}))
    return ours, theirs.to(dtype)


def images(dtype, size=(16, 16)):
    return torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


@every_pair
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_logits_and_gradients_are_timm_s(name, dtype, tolerance):
    """Gradients in float32 to 1e-5 of their scale, sums of thousands of terms being as long as they are."""
    ours, theirs = pair(name, dtype)
    x = images(dtype, PAIRS[name][2].get("img_size", (16, 16)))
    params = tree.map(lambda p: p.requires_grad_(), from_timm(ours, theirs.state_dict()))
    logits, expected = ours(params, x), theirs(x)
    torch.testing.assert_close(logits, expected, rtol=0, atol=tolerance)
    leaves = tree.flatten(params)
    grads = torch.autograd.grad(logits.square().sum(), list(leaves.values()), materialize_grads=True)
    expected_grads = torch.autograd.grad(
        expected.square().sum(), [theirs.get_parameter(n) for n in leaves], materialize_grads=True
    )
    for leaf, grad, expected_grad in zip(leaves, grads, expected_grads, strict=True):
        error = (grad - expected_grad).abs().max()
        assert error <= tolerance * max(1.0, expected_grad.abs().max()), leaf


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_both_heads_logits_and_their_gradients_are_timm_s(dtype, tolerance):
    ours, theirs = pair("distilled", dtype)
    theirs.set_distilled_training(True)
    params = tree.map(lambda p: p.requires_grad_(), from_timm(ours, theirs.state_dict()))
    leaves = tree.flatten(params)
    x = images(dtype)
    both, expected = ours.logits(params, x), theirs.train()(x)
    torch.testing.assert_close(both, expected, rtol=0, atol=tolerance)
    assert (both[0] - both[1]).abs().min() > 1e-3  # the heads are not one

    def gradients(heads, of):
        return torch.autograd.grad(heads[0].square().sum() + heads[1].exp().sum(), of)

    grads = gradients(both, list(leaves.values()))
    expected_grads = gradients(expected, [theirs.get_parameter(n) for n in leaves])
    for leaf, grad, expected_grad in zip(leaves, grads, expected_grads, strict=True):
        assert (grad - expected_grad).abs().max() <= tolerance * max(1.0, expected_grad.abs().max()), leaf


@every_pair
def test_weights_go_there_and_back_bit_for_bit(name):
    ours, theirs = pair(name)
    weights = to_timm(ours, from_timm(ours, theirs.state_dict()))
    assert weights.keys() == theirs.state_dict().keys()
    assert all(torch.equal(weights[n], t) for n, t in theirs.state_dict().items())
    _, fresh = pair(name)
    fresh.load_state_dict(to_timm(ours, ours.init(key(0))))  # strict


@pytest.mark.parametrize(
    ("name", "factory", "knobs"),
    [
        ("convit_tiny", blocks.convit_tiny, {}),
        ("vit_tiny_patch16_224", blocks.vit_tiny, {"img_size": 32, "depth": 2}),
        ("deit_tiny_patch16_224", blocks.deit_tiny, {"img_size": 32, "depth": 2}),
        ("deit_tiny_distilled_patch16_224", deit_tiny_distilled, {"img_size": 32, "depth": 2}),
        ("deit_small_patch16_224", blocks.deit_small, {"img_size": 32, "depth": 1}),
    ],
)
def test_a_model_of_timm_s_registry_gives_timm_s_logits(name, factory, knobs):
    """convit_tiny in full; the others, which differ in width alone, at fewer layers and pixels."""
    theirs, ours = timm.create_model(name, **knobs).eval(), factory(**knobs)
    size = knobs.get("img_size", 224)
    x = torch.randn(1, 3, size, size)
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(0.02 * torch.randn_like(p))
        torch.testing.assert_close(ours(from_timm(ours, theirs.state_dict()), x), theirs(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["vit", "distilled", "clip", "clip of OpenAI"])
def test_a_vit_of_another_grid_gives_timm_s_logits_of_a_dynamic_size(name):
    ours, theirs = pair(name)
    dynamic = type(theirs)(**TINY | PAIRS[name][2] | PAIRS[name][3], dynamic_img_size=True)
    dynamic.load_state_dict(theirs.state_dict())
    x = images(torch.float32, (12, 28))
    torch.testing.assert_close(ours(from_timm(ours, theirs.state_dict()), x), dynamic(x), rtol=0, atol=1e-5)


def test_wrappers_before_the_names_are_taken_off():
    ours, theirs = pair("convit")
    params = from_timm(ours, theirs.state_dict())
    for wrapper in ("module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."):
        wrapped = from_timm(ours, {wrapper + n: t for n, t in theirs.state_dict().items()})
        assert all(torch.equal(t, tree.flatten(params)[n]) for n, t in tree.flatten(wrapped).items())


def test_params_are_a_copy():
    ours, theirs = pair("vit")
    params = from_timm(ours, theirs.state_dict())
    params["head"]["bias"].add_(1)
    assert not torch.equal(params["head"]["bias"], theirs.head.bias)


def test_params_of_a_model_in_channels_last_are_contiguous_as_optimizers_want_them():
    ours, theirs = pair("vit")
    weights = theirs.to(memory_format=torch.channels_last).state_dict()
    params = from_timm(ours, weights)
    sgd(0.1).init(params)
    assert all(torch.equal(leaf, weights[name]) for name, leaf in tree.flatten(params).items())


def test_what_does_not_fit_is_named_at_once():
    ours, theirs = pair("convit")
    weights = theirs.state_dict()
    del weights["norm.bias"], weights["blocks.0.attn.gating_param"]
    weights |= {"dist_token": torch.zeros(1, 1, 16), "head.bias": torch.zeros(7), "head.weight": torch.zeros(7, 16)}
    with pytest.raises(ValueError, match="another model") as error:
        from_timm(ours, weights)
    for line in (
        "missing norm.bias [16]",
        "missing blocks.0.attn.gating_param [4]",
        "unexpected dist_token [1, 1, 16]",
        "head.bias: wanted [5], found [7]",
        "head.weight: wanted [5, 16], found [7, 16]",
    ):
        assert line in str(error.value).splitlines()
    with pytest.raises(ValueError, match=r"missing head\.weight"):
        to_timm(ours, tree.unflatten({"norm.bias": torch.zeros(16)}))


def test_a_position_embedding_of_another_grid_is_mis_shaped_and_the_way_out_is_said():
    _, theirs = pair("vit")
    other = blocks.vit(**TINY | {"img_size": 32, "embed_dim": 12, "num_heads": 3})
    with pytest.raises(ValueError, match="pos_embed: wanted") as error:
        from_timm(other, theirs.state_dict())
    assert "pos_embed: wanted [1, 65, 12], found [1, 17, 12]" in str(error.value)
    assert "build the model with the img_size" in str(error.value)


def test_distilled_weights_in_a_plain_model_are_an_error_that_says_the_way_out():
    _, theirs = pair("distilled")
    plain, _ = pair("vit")
    with pytest.raises(ValueError, match="make it with deit_small_distilled") as error:
        from_timm(plain, theirs.state_dict())
    assert "unexpected head_dist.weight [5, 12]" in str(error.value)


def test_a_way_out_is_said_only_where_it_is_one():
    """Of distilled weights in a distilled model, and of a model or a file without positions."""
    (distilled, theirs), (plain, plains) = pair("distilled"), pair("vit")
    turned = blocks.vit(**TINY, embed_dim=12, num_heads=3, pos_embed="rope")
    for model, weights, left_out in (
        (distilled, theirs.state_dict(), "norm.bias"),
        (plain, plains.state_dict(), "pos_embed"),
        (turned, plains.state_dict(), "norm.bias"),
    ):
        with pytest.raises(ValueError, match="these weights are of another model") as error:
            from_timm(model, {name: leaf for name, leaf in weights.items() if name != left_out})
        assert "belongs to" not in str(error.value)


def test_a_whole_checkpoint_is_not_a_state_dict():
    ours, theirs = pair("vit")
    with pytest.raises(ValueError, match=r"\['model'\].*Give the state_dict inside it"):
        from_timm(ours, {"model": theirs.state_dict()})
