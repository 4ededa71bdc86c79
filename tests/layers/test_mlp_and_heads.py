import pytest
import torch
from torch import nn

from blocks import LayerNorm, LayerScale, Linear, MeanPool, Mlp, ProjectionMlp, SwiGLU, TanhMlpHead, TokenPool, key
from blocks.tree import cast


def test_mlp_is_linear_exact_gelu_linear():
    mlp = Mlp(6, 10)
    params, x = cast(mlp.init(key(0)), torch.float64), torch.randn(2, 5, 6).double()  # in float32 by other kernels
    module = nn.Sequential(nn.Linear(6, 10), nn.GELU(), nn.Linear(10, 6)).double()
    for layer, leaves in zip((module[0], module[2]), (params["fc1"], params["fc2"]), strict=True):
        layer.load_state_dict(leaves)
    assert torch.equal(mlp(params, x), module(x))


def test_a_quick_gelu_is_x_times_the_sigmoid_of_1_702_x():
    mlp = Mlp(6, 10, act_layer="quick_gelu")
    params, x = cast(mlp.init(key(0)), torch.float64), torch.randn(2, 5, 6).double()
    hidden = nn.functional.linear(x, 9 * params["fc1"]["weight"])
    expected = nn.functional.linear(hidden / (1 + torch.exp(-1.702 * hidden)), params["fc2"]["weight"])
    params["fc1"]["weight"] = 9 * params["fc1"]["weight"]
    torch.testing.assert_close(mlp(params, x), expected, rtol=1e-12, atol=0)


def test_a_swiglu_s_first_half_gates_the_second_by_silu():
    mlp = SwiGLU(6, 10)
    params, x = cast(mlp.init(key(0)), torch.float64), torch.randn(2, 5, 6).double()
    gate, value = (9 * params["fc1"]["weight"]).split(10)
    hidden = x @ gate.T / (1 + torch.exp(-(x @ gate.T))) * (x @ value.T)
    params["fc1"]["weight"] = 9 * params["fc1"]["weight"]
    torch.testing.assert_close(mlp(params, x), hidden @ params["fc2"]["weight"].T, rtol=1e-12, atol=0)


def test_layer_norm_is_torch_s_with_vit_s_epsilon():
    norm, x = LayerNorm(6), 1e-3 * torch.randn(2, 5, 6)
    assert torch.equal(norm(norm.init(key(0)), x), nn.LayerNorm(6, eps=1e-6)(x))


def test_linear_starts_normal_and_its_bias_at_zero():
    params = Linear(200, 300).init(key(0))
    assert params["weight"].std() == pytest.approx(0.02, rel=0.02)
    assert not params["bias"].any()
    assert "bias" not in Linear(2, 3, bias=False).init(key(0))
    assert not Linear(2, 3, std=0.0).init(key(0))["weight"].any()


def test_layer_scale_starts_at_its_value():
    scale, x = LayerScale(6, 0.1), torch.randn(2, 5, 6)
    assert torch.equal(scale(scale.init(key(0)), x), x * 0.1)


def test_the_tanh_head_is_linear_tanh_linear_and_starts_lecun_normal():
    head = TanhMlpHead(100, 400, 7)
    params, x = head.init(key(0)), torch.randn(2, 100)
    expected = torch.tanh(x @ params["fc1"]["weight"].T) @ params["fc2"]["weight"].T
    torch.testing.assert_close(head(params, x), expected)
    assert params["fc1"]["weight"].std() == pytest.approx(0.1, rel=0.02)
    assert params["fc2"]["weight"].std() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_projection_has_relus_between_its_layers_and_none_after(depth):
    head = ProjectionMlp(6, 10, 4, depth)
    params, x = head.init(key(0)), torch.randn(5, 6)
    y = x
    for i in range(depth):
        y = nn.functional.linear(y, *params["layers"][str(i)].values())
        y = y.relu() if i < depth - 1 else y
    assert torch.equal(head(params, x), y)
    assert (y < 0).any()


def test_a_projection_without_layers_is_an_error():
    with pytest.raises(ValueError, match="depth 0"):
        ProjectionMlp(6, 10, 4, 0)


def test_mean_pooling_is_over_patches_alone():
    tokens = torch.randn(2, 5, 6)
    assert torch.equal(MeanPool(1)({}, tokens), tokens[:, 1:].mean(1))
    assert torch.equal(TokenPool()({}, tokens), tokens[:, 0])


def test_a_batch_of_one_keeps_its_axis():
    assert MeanPool()({}, torch.randn(1, 5, 6)).shape == (1, 6)
    assert TokenPool()({}, torch.randn(1, 5, 6)).shape == (1, 6)
