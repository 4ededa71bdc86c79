"""Residual, layer scale, drop path and layer norm together: against their formulas in float64, and when composed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.ops.residual_norm import residual_norm
from blocks.random import key, normal, split
from tests.torch_versions import compiles_requires_grad

pytest.importorskip("triton")
SHAPE = (2, 3, 5)


def inputs(shape, gamma=True, scales=True, dtype=torch.float64):
    """x, branch, weight, bias, gamma or None, scales or None."""
    shapes = [shape, shape, *[shape[-1:]] * 3, shape[:1]]
    found = [normal(k, tuple(s), dtype) for k, s in zip(split(key(3), 6), shapes, strict=True)]
    found[5] = 1.25 * (found[5] > -0.3)
    return [*found[:4], found[4] if gamma else None, found[5] if scales else None]


def value_and_grads(leaves, impl, double=False):
    """Stream, norm, and the gradients of all but scales, from a fixed direction."""
    leaves = [x if x is None else x.detach().double() if double else x.detach() for x in leaves]
    wanted = [x.requires_grad_() for x in leaves[:5] if x is not None]
    found = residual_norm(*leaves[:4], gamma=leaves[4], scales=leaves[5], impl=impl)
    directions = [normal(k, tuple(found[0].shape), torch.float64).to(found[0]) for k in split(key(4), 2)]
    return [*(x.detach() for x in found), *torch.autograd.grad(found, wanted, directions)]


def check(leaves, tolerance=1e-5):
    """The kernels are as near to float64 as PyTorch's own operations in the same type, up to the tolerance."""
    exact = value_and_grads(leaves, "plain", double=True)
    for a, b, other in zip(*(value_and_grads(leaves, i) for i in ("triton", "torch")), exact, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        worst, usual = (a - other).abs().max(), (b - other).abs().max()
        assert worst <= tolerance * other.abs().max().clamp_min(1) + usual, f"{worst}, PyTorch's {usual}"


def to(device, leaves, *dtypes):
    """x and branch in these types, the rest in float32."""
    dtypes = (*dtypes, *[torch.float32] * 6)
    return [x if x is None else x.to(device, dtype) for x, dtype in zip(leaves, dtypes, strict=False)]


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=2).flatmap(lambda s: st.integers(2, 40).map(lambda d: (*s, d))),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=10, deadline=None, derandomize=True)
def test_values_and_all_gradients_of_any_shape(device, shape, gamma, scales):
    check(to(device, inputs(shape, gamma, scales)))


def test_the_torch_form_equals_the_formulas():
    for gamma, scales in [(True, True), (True, False), (False, True), (False, False)]:
        leaves = inputs(SHAPE, gamma, scales)
        for a, b in zip(value_and_grads(leaves, "torch"), value_and_grads(leaves, "plain"), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("gamma", [True, False])
@pytest.mark.parametrize(("types", "tolerance"), [((torch.bfloat16,) * 2, 8e-3), ((torch.float16,) * 2, 1e-3)])
def test_low_precision(device, gamma, types, tolerance):
    check(to(device, inputs(SHAPE, gamma, gamma), *types, *[types[0]] * 4), tolerance)


def test_a_stream_of_float32_with_a_branch_of_less(device):
    """As under autocast."""
    check(to(device, inputs(SHAPE, False, False), torch.float32, torch.bfloat16), 8e-3)


def test_many_rows_are_shared_among_programs(device, monkeypatch):
    from blocks.ops.kernels import residual_norm as kernels

    monkeypatch.setattr(kernels, "PROGRAMS", 2)
    check(to(device, inputs((3, 7, 6))))


def test_extreme_numbers(device):
    """Rows of one number, far from zero, and of millions; a sample that is dropped."""
    leaves = to(device, inputs((3, 2, 8)))
    leaves[0][0], leaves[1][0] = 1000.0, 0.0
    leaves[0][1] *= 1e6
    leaves[5] = torch.tensor([1.0, 1.0, 0.0], device=device)
    stream, normed, *grads = value_and_grads(leaves, "triton")
    assert torch.equal(normed[0], leaves[3].expand(2, -1))
    assert torch.equal(stream[2], leaves[0][2])
    assert all(x.isfinite().all() for x in grads)
    assert torch.equal(grads[1][2], torch.zeros_like(grads[1][2]))


def test_inputs_in_any_memory_order(device):
    leaves = to(device, inputs(SHAPE))
    check([x.mT.contiguous().mT if x.ndim > 1 else x.repeat_interleave(2)[::2] for x in leaves])


def test_one_output_alone_has_gradients_too(device):
    for which in (0, 1):
        grads = []
        for impl in ("triton", "torch"):
            leaves = [x.requires_grad_() for x in to(device, inputs(SHAPE))[:5]]
            found = residual_norm(*leaves[:4], gamma=leaves[4], impl=impl)[which]
            grads.append(torch.autograd.grad(found.square().sum(), leaves[:2]))
        for a, b in zip(*grads, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def loss(x, branch, weight, bias, gamma, scales):
    stream, normed = residual_norm(x, branch, weight, bias, gamma=gamma, scales=scales, impl="triton")
    return (stream * normed).square().sum()


@pytest.mark.parametrize("given", [True, False])
def test_torch_func_grad_and_vmap_over_seeds_equal_autograd(device, given):
    many = [x if x is None else torch.stack((x, 0.5 * x)) for x in to(device, inputs(SHAPE, given, given))]
    places = tuple(range(5 if given else 4))
    batched = torch.func.vmap(
        torch.func.grad(loss, argnums=places), in_dims=tuple(0 if x is not None else None for x in many)
    )(*many)
    for i in range(2):
        one = [x if x is None else x[i].clone() for x in many]
        leaves = [one[p].requires_grad_() for p in places]
        for a, b in zip(batched, torch.autograd.grad(loss(*one), leaves), strict=True):
            torch.testing.assert_close(a[i], b)


@compiles_requires_grad
@torch._dynamo.config.patch(trace_autograd_ops=True)
def test_a_compiled_step_gives_the_eager_gradients(device):
    leaves = to(device, inputs(SHAPE))

    def step(leaves):
        return value_and_grads(leaves, "triton")

    for a, b in zip(torch.compile(step, fullgraph=True, backend="aot_eager")(leaves), step(leaves), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("given", [True, False])
def test_the_ops_pass_pytorchs_own_checks(device, given):
    leaves, fake = to(device, inputs(SHAPE, given, given)), ("test_schema", "test_faketensor")
    torch.library.opcheck(torch.ops.blocks.residual_norm.default, (*leaves, 1e-6), test_utils=fake)
    stream, normed, mean, deviation = torch.ops.blocks.residual_norm(*leaves, 1e-6)
    x, branch, weight, _, gamma, scales = leaves
    arguments = (x, normed, stream, mean, deviation, weight, branch if given else None, gamma, scales, torch.float32)
    torch.library.opcheck(torch.ops.blocks.residual_norm_backward.default, arguments, test_utils=fake)


def test_what_the_kernel_cannot_do_is_said(device):
    leaves = [x.to(device) for x in inputs(SHAPE)]
    with pytest.raises(ValueError, match=r"x and branch are torch\.float64 and"):
        residual_norm(*leaves[:4], impl="triton")
    low = to(device, leaves)
    with pytest.raises(ValueError, match=r"branch \(3, 5\)"):
        residual_norm(low[0], low[1][0], *low[2:4], impl="triton")
