"""The slow reference is the papers' softmax, written out from the params in float64."""

from functools import partial

import pytest
import torch

from blocks import GPSA, Attention, checkpointed, convit, distilled, from_module, key, tree, vit
from blocks.layers.compiled import compiled_layers
from blocks.pictures.attention import attention_maps, content_maps, position_maps

SMALL = dict(img_size=(12, 16), patch_size=4, num_classes=3, embed_dim=16, depth=3, num_heads=4)  # a grid of 3 x 4
MODELS = {
    "vit": vit(**SMALL),
    "vit, mean over patches": vit(**SMALL, class_token=False, global_pool="avg", qk_scale=0.7),
    "convit": convit(**SMALL, local_up_to_layer=2),
    "convit, class token in local layers": convit(**SMALL, local_up_to_layer=2, class_token_in_local_layers=True),
    "convit, layer scale": convit(**SMALL, local_up_to_layer=3, global_pool="avg", init_values=0.5),
    "distilled vit": distilled(vit(**SMALL)),
    "distilled convit": distilled(convit(**SMALL, local_up_to_layer=1)),
}
PREFIX = {
    "vit": (1, 1, 1),
    "vit, mean over patches": (0, 0, 0),
    "convit": (0, 0, 1),
    "convit, class token in local layers": (1, 1, 1),
    "convit, layer scale": (0, 0, 0),
    "distilled vit": (2, 2, 2),
    "distilled convit": (0, 2, 2),
}


def images(size=(12, 16)):
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def disturbed(model):
    """Float64 params in which nothing is where it started: no zeros, no identity, no equal heads."""
    noise = torch.Generator().manual_seed(2)
    return tree.map(
        lambda p: p.double() + 0.3 * torch.randn(p.shape, generator=noise, dtype=torch.float64), model.init(key(0))
    )


def layer_norm(p, x):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], p["weight"], p["bias"], 1e-6)


def weights_by_hand(attn, p, x, grid):
    """softmax(q.k) of one image's tokens [P + N, D], mixed with softmax(w.r) by the gate: [h, P + N, P + N]."""
    heads, width = attn.num_heads, x.shape[-1]
    linear = p["qkv"] if isinstance(attn, Attention) else p["qk"]
    projected = x @ linear["weight"].T + linear.get("bias", 0)
    q, k = (projected[:, i * width : (i + 1) * width].unflatten(1, (heads, -1)) for i in (0, 1))
    scale = (width // heads) ** -0.5 if attn.qk_scale is None else attn.qk_scale
    content = torch.stack([(q[:, h] @ k[:, h].T * scale).softmax(-1) for h in range(heads)])
    if isinstance(attn, Attention):
        return content
    mixed, prefix = content.clone(), len(x) - grid[0] * grid[1]
    for h in range(heads):
        gate = p["gating_param"][h].sigmoid()
        for i in range(grid[0] * grid[1]):
            steps = [(j % grid[1] - i % grid[1], j // grid[1] - i // grid[1]) for j in range(grid[0] * grid[1])]
            relative = torch.tensor([(dx, dy, dx * dx + dy * dy) for dx, dy in steps], dtype=torch.float64)
            position = (relative @ p["pos_proj"]["weight"][h] + p["pos_proj"]["bias"][h]).softmax(0)
            mixed[h, prefix + i] *= 1 - gate
            mixed[h, prefix + i, prefix:] += gate * position
    return mixed


@pytest.mark.parametrize("name", MODELS)
def test_maps_are_the_softmax_written_out_and_give_what_the_layers_give(name):
    """Each layer's own tokens are followed through the reference: its weights times v, through proj and the MLP."""
    model, params, grid = MODELS[name], disturbed(MODELS[name]), (3, 4)
    maps, tokens = attention_maps(model, params, images()), model.trunk.intermediate_tokens(params, images())
    for i, layer in enumerate(model.trunk.blocks):
        p = params["blocks"][str(i)]
        weights = maps[f"blocks.{i}"]
        x = layer_norm(p["norm1"], tokens[i])
        by_hand = torch.stack([weights_by_hand(layer.attn, p["attn"], one, grid) for one in x])
        assert weights.shape[-1] == 12 + PREFIX[name][i]
        torch.testing.assert_close(weights, by_hand, rtol=0, atol=1e-12)
        v = p["attn"]["v"] if isinstance(layer.attn, GPSA) else tree.map(lambda t: t[-16:], p["attn"]["qkv"])
        moved = weights @ (x @ v["weight"].T + v.get("bias", 0)).unflatten(2, (4, 4)).transpose(1, 2)
        out = moved.transpose(1, 2).flatten(2) @ p["attn"]["proj"]["weight"].T + p["attn"]["proj"]["bias"]
        torch.testing.assert_close(layer.attn(p["attn"], x, grid=grid), out, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_the_last_intermediate_tokens_are_the_trunk_s_answer_before_the_norm(name):
    trunk, params = MODELS[name].trunk, disturbed(MODELS[name])
    tokens = trunk.intermediate_tokens(params, images())
    assert [t.shape[1] - 12 for t in tokens[:-1]] == list(PREFIX[name])
    last = tokens[-1] if trunk.norm is None else layer_norm(params["norm"], tokens[-1])
    torch.testing.assert_close(trunk(params, images()), last, rtol=0, atol=1e-12)


def test_a_layer_s_tokens_are_what_it_is_given_in_the_model():
    """A layer whose params change changes no tokens before it, and all after it."""
    model = MODELS["convit"]
    params = disturbed(model)
    before = model.trunk.intermediate_tokens(params, images())
    params["blocks"]["1"]["mlp"]["fc2"]["bias"] += 1
    after = model.trunk.intermediate_tokens(params, images())
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [True, True, False, False]


@pytest.mark.parametrize("name", MODELS)
def test_rows_sum_to_one_on_other_grids_and_in_float32(name):
    model, params = MODELS[name], tree.cast(disturbed(MODELS[name]), torch.float32)
    for weights in attention_maps(model, params, images((8, 20)).float()).values():
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


@pytest.mark.parametrize("name", ["convit", "convit, class token in local layers"])
def test_content_and_position_mixed_by_the_gate_are_the_whole(name):
    model, params = MODELS[name], disturbed(MODELS[name])
    whole, content = attention_maps(model, params, images()), content_maps(model, params, images())
    position = position_maps(model, params, (3, 4))
    assert position.keys() == {"blocks.0", "blocks.1"}
    assert torch.equal(content["blocks.2"], whole["blocks.2"])
    for layer, maps in position.items():
        gate = params["blocks"][layer[-1]]["attn"]["gating_param"].sigmoid()[:, None, None]
        mixed = (1 - gate) * content[layer][..., -12:, -12:] + gate * maps
        torch.testing.assert_close(whole[layer][..., -12:, -12:], mixed, rtol=0, atol=1e-12)


@pytest.mark.parametrize("change", [checkpointed, partial(compiled_layers, backend="eager")])
def test_a_model_with_its_layers_wrapped_shows_the_same(change):
    model = MODELS["convit"]
    params = disturbed(model)
    plain, wrapped = (attention_maps(m, params, images()) for m in (model, change(model)))
    assert all(torch.equal(plain[name], wrapped[name]) for name in plain)


def test_a_trunk_alone_will_do_and_what_has_no_attention_is_an_error():
    model = MODELS["vit"]
    params = disturbed(model)
    assert torch.equal(
        attention_maps(model.trunk, params, images())["blocks.1"], attention_maps(model, params, images())["blocks.1"]
    )
    block, params = from_module(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="ModuleBlock has no attention to look at; use a trunk of encoder layers"):
        attention_maps(block, params, images())
