"""The perceptron's first half with bias and GELU in one kernel, against its formula in float64 and when composed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.ops.gelu import linear_gelu
from blocks.random import key, normal, split
from tests.torch_versions import compiles_requires_grad

pytest.importorskip("triton")


def inputs(shape, width, dtype=torch.float64):
    """x, weight, bias."""
    shapes = [tuple(shape), (width, shape[-1]), (width,)]
    return [normal(k, s, dtype) for k, s in zip(split(key(5), 3), shapes, strict=True)]


def value_and_grads(leaves, impl):
    leaves = [x.detach().requires_grad_() for x in leaves]
    out = linear_gelu(*leaves, impl=impl)
    direction = normal(key(6), tuple(out.shape), torch.float64).to(out)
    return [out.detach(), *torch.autograd.grad(out, leaves, direction)]


def check(leaves, tolerance=1e-5):
    exact = value_and_grads([x.double() for x in leaves], "plain")
    for a, b, other in zip(*(value_and_grads(leaves, i) for i in ("triton", "torch")), exact, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        worst, usual = (a - other).abs().max(), (b - other).abs().max()
        assert worst <= tolerance * other.abs().max().clamp_min(1) + usual, f"{worst}, PyTorch's {usual}"


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.sampled_from([1, 7, 128, 150]))
@settings(max_examples=6, deadline=None, derandomize=True)
def test_values_and_all_gradients_of_any_shape(device, shape, width):
    check([x.to(device, torch.float32) for x in inputs(shape, width)])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 8e-3), (torch.float16, 1e-3)])
def test_low_precision(device, dtype, tolerance):
    check([x.to(device, dtype) for x in inputs((2, 3, 5), 7)], tolerance)


def test_many_rows_are_shared_among_programs(device, monkeypatch):
    from blocks.ops.kernels import gelu as kernels

    monkeypatch.setattr(kernels, "SHARES", 2)
    check([x.to(device, torch.float32) for x in inputs((41, 5), 7)])


def test_extreme_numbers_and_any_memory_order(device):
    x, weight, bias = (t.to(device, torch.float32) for t in inputs((6, 4), 6))
    x[0], bias[2] = 1e4, -1e6
    check([x.T.contiguous().T, weight.T.contiguous().T, bias.repeat_interleave(2)[::2]])


def loss(x, weight, bias):
    return linear_gelu(x, weight, bias, impl="triton").square().sum()


@pytest.mark.parametrize("shared", [False, True])
def test_torch_func_grad_and_vmap_equal_autograd(device, shared):
    """Over seeds, and over samples of one bias."""
    leaves = [x.to(device, torch.float32) for x in inputs((3, 4), 5)]
    many = [torch.stack((x, 0.5 * x)) for x in leaves]
    many, dims = ([many[0], *leaves[1:]], (0, None, None)) if shared else (many, 0)
    batched = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1, 2)), in_dims=dims)(*many)
    for i in range(2):
        one = [(x if shared and place else x[i]).clone().requires_grad_() for place, x in enumerate(many)]
        for a, b in zip(batched, torch.autograd.grad(loss(*one), one), strict=True):
            torch.testing.assert_close(a[i], b)


@compiles_requires_grad
@torch._dynamo.config.patch(trace_autograd_ops=True)
def test_a_compiled_step_gives_the_eager_gradients(device):
    leaves = [x.to(device, torch.float32) for x in inputs((3, 4), 5)]

    def step(leaves):
        return value_and_grads(leaves, "triton")

    for a, b in zip(torch.compile(step, fullgraph=True, backend="aot_eager")(leaves), step(leaves), strict=True):
        torch.testing.assert_close(a, b)


def test_the_ops_pass_pytorchs_own_checks(device):
    x, _, bias = (x.to(device, torch.float32) for x in inputs((3, 5), 5))
    fake = ("test_schema", "test_faketensor")
    torch.library.opcheck(torch.ops.blocks.bias_gelu.default, (x, bias), test_utils=fake)
    torch.library.opcheck(torch.ops.blocks.bias_gelu_backward.default, (x, x, bias), test_utils=fake)


def test_what_the_kernel_cannot_do_is_said(device):
    with pytest.raises(ValueError, match=r"x, weight, bias are torch\.float64"):
        linear_gelu(*(x.to(device) for x in inputs((3, 4), 5)), impl="triton")
