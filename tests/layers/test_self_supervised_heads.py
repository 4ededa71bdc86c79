"""Heads of self-supervision: projections with batch norm, DINO's head, prototypes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn import BatchNorm1d, Linear, ReLU, Sequential
from torch.nn.utils.parametrizations import weight_norm

from blocks import ProjectionMlp, key, tree
from blocks.layers import published_heads as heads
from blocks.layers.dino_head import DinoHead
from blocks.layers.weight_norm import Prototypes, WeightNormLinear, unit


def bare(a, b):
    return Linear(a, b, bias=False)


def hidden(a, b):
    return bare(a, b), BatchNorm1d(b), ReLU()


PUBLISHED = {
    "moco_v2_head": (heads.moco_v2_head(6, 8, 4), (Linear(6, 8), ReLU(), Linear(8, 4))),
    "moco_v3_projector": (
        heads.moco_v3_projector(6, 8, 4),
        (*hidden(6, 8), *hidden(8, 8), bare(8, 4), BatchNorm1d(4, affine=False)),
    ),
    "moco_v3_predictor": (heads.moco_v3_predictor(6, 8), (*hidden(6, 8), bare(8, 6), BatchNorm1d(6, affine=False))),
    "simclr_head": (heads.simclr_head(6, 8, 4), (*hidden(6, 8), bare(8, 4), BatchNorm1d(4))),
    "swav_head": (heads.swav_head(6, 8, 4), (*hidden(6, 8), Linear(8, 4))),
    "byol_projector": (heads.byol_projector(6, 8, 4), (*hidden(6, 8), Linear(8, 4))),
    "byol_predictor": (heads.byol_predictor(6, 8), (*hidden(6, 8), Linear(8, 6))),
    "barlow_projector": (heads.barlow_projector(6, 8), (*hidden(6, 8), *hidden(8, 8), bare(8, 8))),
    "vicreg_expander": (heads.vicreg_expander(6, 8), (*hidden(6, 8), *hidden(8, 8), bare(8, 8))),
    "gelu": (ProjectionMlp(6, 8, 4, activation="gelu"), (Linear(6, 8), nn.GELU(), Linear(8, 4))),
}
every_head = pytest.mark.parametrize("name", PUBLISHED)


def torchs(name):
    """(the head, its float64 params, the same of torch's layers, those whose statistics are the last batch's)."""
    head, layers = PUBLISHED[name]
    params = tree.cast(head.init(key(0)), torch.float64)
    for i, layer in enumerate(layer for layer in layers if isinstance(layer, Linear)):
        layer.double().load_state_dict(params["layers"][str(i)])
    norms = {**params.get("norms", {}), "final": params.get("final_norm", {})}
    for layer, (_, leaves) in zip((m for m in layers if isinstance(m, BatchNorm1d)), norms.items(), strict=False):
        layer.double().load_state_dict(leaves, strict=False)
        layer.momentum = 1.0
    return head, params, Sequential(*layers).train()


@every_head
def test_a_published_head_is_its_stack_of_torch_s_layers(name):
    """Values, the input's gradient, and the number of params."""
    head, params, module = torchs(name)
    x = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    y, expected = head(params, x), module(x)
    torch.testing.assert_close(y, expected)
    ours, torchs_own = (torch.autograd.grad(out.pow(3).sum(), x)[0] for out in (y, expected))
    torch.testing.assert_close(ours, torchs_own)
    assert tree.count(params) == sum(p.numel() for p in module.parameters())


@every_head
def test_its_moments_stand_beside_its_params_in_evaluation(name):
    """What it observed, put into its params, gives torch's evaluation mode."""
    head, params, module = torchs(name)
    batch, x = torch.randn(2, 5, 6, dtype=torch.float64)
    y, moments = head.observed(params, batch)
    torch.testing.assert_close(y, module(batch))
    evaluated = tree.unflatten({**tree.flatten(params), **moments})
    torch.testing.assert_close(head(evaluated, x[:1]), module.eval()(x[:1]))
    assert tuple(tree.flatten(head.running())) == tuple(moments)


def test_a_projection_names_its_norms_after_their_places():
    head = ProjectionMlp(6, 8, 4, 3, "batch", "batch")
    layers = tuple(f"layers.{i}.weight" for i in range(3))
    norms = tuple(f"{n}.{leaf}" for n in ("norms.0", "norms.1", "final_norm") for leaf in ("weight", "bias"))
    assert tuple(tree.flatten(head.init(key(0)))) == (*layers, *norms)


def test_a_projection_s_groups_reach_all_its_norms():
    head = ProjectionMlp(6, 8, 4, 3, "batch", "batch without affine", group_size=3)
    whole = ProjectionMlp(6, 8, 4, 3, "batch", "batch without affine")
    params, x = tree.cast(head.init(key(0)), torch.float64), torch.randn(6, 6, dtype=torch.float64)
    torch.testing.assert_close(head(params, x), torch.cat([whole(params, part) for part in x.split(3)]))


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"norm": "layer"}, "norm 'layer' is not known"),
        ({"last_norm": "affine"}, "last_norm 'affine' is not known"),
        ({"activation": "tanh"}, "activation 'tanh' is not known"),
        ({"group_size": 4}, 'give norm="batch"'),
        ({"norm": "batch", "group_size": 1}, "group_size 1"),
    ],
)
def test_a_projection_that_cannot_be_is_an_error(knobs, message):
    with pytest.raises(ValueError, match=message):
        ProjectionMlp(6, 8, 4, **knobs)


def dino_s(params):
    """torch's layers with a DINO head's params."""
    layers = [Linear(6, 8), Linear(8, 8), Linear(8, 5)]
    for i, layer in enumerate(layers):
        layer.double().load_state_dict(params["layers"][str(i)])
    last = weight_norm(bare(5, 7).double())  # original0: lengths, original1: directions
    last.parametrizations.weight.original1.data = params["last_layer"]["weight_v"].clone()
    last.parametrizations.weight.original0.data = params["last_layer"].get("weight_g", torch.ones(7, 1)).double()
    mlp = Sequential(layers[0], nn.GELU(), layers[1], nn.GELU(), layers[2])
    return lambda x: last(F.normalize(mlp(x), dim=-1)), last.parametrizations.weight


@pytest.mark.parametrize("norm_last_layer", [True, False])
def test_dino_s_head_is_torch_s_layers_with_weight_norm(norm_last_layer):
    """Values, and the gradients of the input and of the last layer's directions and lengths."""
    head = DinoHead(6, 7, hidden_features=8, bottleneck_features=5, norm_last_layer=norm_last_layer)
    params = tree.cast(head.init(key(0)), torch.float64)
    if not norm_last_layer:
        params["last_layer"]["weight_g"] += torch.rand(7, 1)
    function, weight = dino_s(params)
    last = tree.map(lambda t: t.requires_grad_(), params["last_layer"])
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    y, expected = head(params, x), function(x)
    torch.testing.assert_close(y, expected)
    found = torch.autograd.grad(y.pow(3).sum(), (x, *last.values()))
    wanted = torch.autograd.grad(expected.pow(3).sum(), (x, weight.original1, weight.original0))
    for ours, torchs_own in zip(found, wanted, strict=False):  # lengths that are fixed have none
        torch.testing.assert_close(ours, torchs_own)
    assert len(found) == 2 + (not norm_last_layer)


def test_dino_s_head_with_batch_norms_is_torch_s_layers():
    """Values, the input's gradient, the moments observed, and the output by running ones."""
    head = DinoHead(6, 7, hidden_features=8, bottleneck_features=5, norm="batch")
    params = tree.cast(head.init(key(0)), torch.float64)
    mlp = Sequential(
        bare(6, 8), BatchNorm1d(8), nn.GELU(), bare(8, 8), BatchNorm1d(8), nn.GELU(), Linear(8, 5)
    ).double()
    linear, norms = ([m for m in mlp if isinstance(m, kind)] for kind in (Linear, BatchNorm1d))
    for part, modules in (("layers", linear), ("norms", norms)):
        for i, module in enumerate(modules):
            module.load_state_dict(params[part][str(i)], strict=False)
            module.momentum = 1.0
    x = torch.randn(9, 6, dtype=torch.float64, requires_grad=True)
    directions = F.normalize(params["last_layer"]["weight_v"], dim=1)
    expected = F.normalize(mlp(x), dim=1) @ directions.T
    y, moments = head.observed(params, x)
    torch.testing.assert_close((head(params, x), y), (expected, expected))
    (ours,), (torchs_own,) = (torch.autograd.grad(out.pow(3).sum(), x) for out in (y, expected))
    torch.testing.assert_close(ours, torchs_own)
    torch.testing.assert_close(
        moments,
        {
            name: moment
            for i, m in enumerate(norms)
            for name, moment in ((f"norms.{i}.running_mean", m.running_mean), (f"norms.{i}.running_var", m.running_var))
        },
    )
    assert set(tree.flatten(head.running())) == set(moments)
    params = tree.unflatten(tree.flatten(params) | moments)
    torch.testing.assert_close(head(params, x), F.normalize(mlp.eval()(x), dim=1) @ directions.T)
    with pytest.raises(ValueError, match="norm"):
        DinoHead(6, 7, norm="layer")


def test_dino_s_head_comes_apart_at_the_bottleneck():
    head = heads.dino_head(6, 7, hidden_features=8, bottleneck_features=5)
    params, x = head.init(key(0)), torch.randn(4, 6)
    z = head.bottleneck(params, x)
    assert torch.equal(head.logits(params, z), head(params, x))
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(4))
    assert head.logits(params, z).abs().max() <= 1 + 1e-6  # cosines
    with pytest.raises(ValueError, match="depth 0"):
        DinoHead(6, 7, depth=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 1e4])
def test_rows_of_half_precision_have_length_one_at_any_scale(dtype, scale):
    """Squares of 1e4 are beyond float16, those of 1e-6 below it; a row of zeros stays."""
    rows = unit((torch.randn(3, 64).sign() * scale).to(dtype))
    assert rows.dtype == dtype
    assert torch.allclose(rows.float().norm(dim=-1), torch.ones(3) * (scale > 0), atol=0.01)
    layer = WeightNormLinear(64, 3)
    params = tree.cast(tree.map(lambda t: t * scale, layer.init(key(0))), dtype)
    assert layer(params, torch.ones(1, 64, dtype=dtype)).isfinite().all()


def test_prototypes_start_with_length_one_and_score_by_products():
    prototypes = Prototypes(16, 9)
    params, x = prototypes.init(key(0)), torch.randn(2, 3, 16)
    assert params["weight"].shape == (9, 16)
    torch.testing.assert_close(params["weight"].norm(dim=1), torch.ones(9))
    torch.testing.assert_close(prototypes(params, x), x @ params["weight"].T)


def test_published_heads_have_their_papers_widths():
    sizes = {name: [layer.out_features for layer in getattr(heads, name)(384).layers] for name in PUBLISHED_WIDTHS}
    assert sizes == PUBLISHED_WIDTHS
    assert heads.moco_v3_predictor() == ProjectionMlp(256, 4096, 256, 2, "batch", "batch without affine")
    assert heads.byol_predictor() == heads.byol_projector(256)
    assert heads.dino_head(384).last_layer == WeightNormLinear(256, 65_536)


PUBLISHED_WIDTHS = {
    "moco_v2_head": [2048, 128],
    "moco_v3_projector": [4096, 4096, 256],
    "simclr_head": [2048, 128],
    "swav_head": [2048, 128],
    "byol_projector": [4096, 256],
    "barlow_projector": [8192] * 3,
    "vicreg_expander": [8192] * 3,
    "dino_head": [2048, 2048, 256],
}


def test_heads_start_with_the_variance_of_torch_s_linear_layers():
    """Uniform within 1 / sqrt(in): a third of 1 / in."""
    mlp, last = ProjectionMlp(300, 100, 200).init(key(0)), WeightNormLinear(200, 100).init(key(0))
    for weight in (mlp["layers"]["0"]["weight"], mlp["layers"]["1"]["weight"], last["weight_v"]):
        assert weight.std() == pytest.approx((3 * weight.shape[1]) ** -0.5, rel=0.02)  # 4 deviations of 20,000 draws
