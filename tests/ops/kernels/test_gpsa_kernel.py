"""GPSA's kernels against the paper's formula in float64, and under everything that differentiates or compiles."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from blocks.ops.gpsa import gpsa, gpsa_packed, position_attention
from tests.ops.test_gpsa import inputs, separable, value_and_grads
from tests.torch_versions import compiles_requires_grad

pytest.importorskip("triton")
NAMES = ("value", "q", "k", "v", "weight", "bias", "gate")


def kernel(*leaves, **options):
    return separable(*leaves, impl="triton", **options)


def check(leaves, grid, prefix, dtype=torch.float32, tolerance=1e-5, function=kernel, **options):
    """Values and gradients of the kernels beside the reference in float64, from the same rounded numbers."""
    low = [x.to(dtype) for x in leaves[:3]] + [x.float() for x in leaves[3:]]
    wanted = value_and_grads(separable, [x.double() for x in low], grid, prefix, impl="plain", **options)
    found = value_and_grads(function, low, grid=grid, prefix=prefix, **options)
    others = value_and_grads(separable, low, grid, prefix, impl="torch", **options)
    for name, a, b, other in zip(NAMES, found, wanted, others, strict=True):
        assert a.dtype == other.dtype
        worst, size, usual = (a - b).abs().max(), b.abs().max(), (other - b).abs().max()
        assert worst <= tolerance * size.clamp_min(1) + usual, f"{name}: {worst} of {size}; PyTorch's: {usual}"


shapes = st.tuples(
    st.integers(1, 2),  # samples
    st.integers(1, 2),  # heads
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.integers(1, 40),  # channels
    st.integers(0, 3),  # prefix tokens
)


def packed(q, k, v, weight, bias, gate, grid, prefix, **options):
    """As `kernel`, of q, k and v in one tensor, as a product makes them."""
    qkv = torch.stack([x.transpose(1, 2) for x in (q, k, v)], 2)
    options = {"num_prefix_tokens": prefix, "impl": "triton"} | options
    return gpsa_packed(qkv, *position_attention(weight, bias, grid), gate.sigmoid(), **options)


@given(shapes)
@settings(max_examples=4, deadline=None, derandomize=True)
def test_values_and_all_gradients_of_any_shape(device, shape):
    check([x.to(device) for x in inputs(*shape)], shape[2], shape[4])


@pytest.mark.parametrize(("grid", "prefix"), [((5, 7), 1), ((16, 2), 20)])
def test_tokens_and_prefix_of_several_tiles(device, grid, prefix):
    check([x.to(device) for x in inputs(1, 1, grid, 8, prefix)], grid, prefix, scale=0.3)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 8e-3), (torch.float16, 1e-3)])
def test_low_precision_rounds_as_pytorchs_own_form(device, dtype, tolerance):
    check([x.to(device) for x in inputs(1, 2, (3, 5), 16, 1)], (3, 5), 1, dtype, tolerance)


@pytest.mark.parametrize("impl", ["triton", "torch", "plain"])
def test_of_one_tensor_the_gradient_is_one_tensor(device, impl):
    leaves = [x.to(device) for x in inputs(2, 2, (3, 5), 12, 2)]
    check(leaves, (3, 5), 2, function=lambda *a, **o: packed(*a, **o | {"impl": impl}), scale=0.3)


def test_extreme_numbers(device):
    """Scores of thousands, heads that attend to one place alone, gates of 0 and 1."""
    leaves = [x.to(device) for x in inputs(1, 2, (3, 4), 8, 1)]
    leaves[0], leaves[3] = 300 * leaves[0], 50 * leaves[3]
    leaves[5] = torch.tensor([-200.0, 200.0], device=device)
    noise = torch.finfo(torch.float32).eps * leaves[0].abs().max()  # k's gradient is these queries times rounding alone
    check(leaves, (3, 4), 1, tolerance=noise)


def test_inputs_in_any_memory_order(device):
    leaves = inputs(1, 2, (2, 3), 4, 0, torch.float32)
    strange = [x.to(device).mT.contiguous().mT for x in leaves[:3]] + [x.to(device) for x in leaves[3:]]
    check(strange, (2, 3), 0)


def test_a_gradient_that_is_one_number_everywhere(device):
    q, k, v, weight, bias, gate = (x.to(device).requires_grad_() for x in inputs(1, 2, (2, 3), 4, 0, torch.float32))
    (found,) = torch.autograd.grad(kernel(q, k, v, weight, bias, gate, grid=(2, 3), prefix=0).sum(), v)
    (wanted,) = torch.autograd.grad(separable(q, k, v, weight, bias, gate, (2, 3), 0, impl="torch").sum(), v)
    torch.testing.assert_close(found, wanted)


def test_the_same_bits_twice(device):
    leaves = [x.to(device) for x in inputs(1, 1, (5, 7), 4, 0, torch.float32)]
    first, second = (value_and_grads(kernel, leaves, grid=(5, 7), prefix=0) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


class Made(TorchDispatchMode):
    """The names of the operations, and how many numbers each gives."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.found.append((str(func), out.numel() if isinstance(out, torch.Tensor) else 0))
        return out


def test_backward_puts_no_parts_together_and_fills_nothing_with_zeros(device):
    leaves = [x.to(device).requires_grad_() for x in inputs(2, 2, (3, 5), 12, 0, torch.float32)]
    qkv = torch.stack([x.detach().transpose(1, 2) for x in leaves[:3]], 2).requires_grad_()
    factors = [x.detach() for x in position_attention(*leaves[3:5], (3, 5))]
    out = gpsa_packed(qkv, *factors, leaves[5].sigmoid(), impl="triton")
    with Made() as made:
        (grad,) = torch.autograd.grad(out, qkv, torch.ones_like(out))
    assert grad.is_contiguous()
    assert ("blocks.gpsa_backward.default", 0) in made.found
    large = [name for name, size in made.found if size >= out.numel() and "view" not in name]
    assert not {"aten.stack.default", "aten.cat.default", "aten.zeros.default", "aten.clone.default"} & set(large)


def of_grid(q, k, v, weight, bias, gate, function=kernel):
    return function(q, k, v, weight, bias, gate, grid=(2, 3), prefix=1).square().sum()


@pytest.mark.parametrize("function", [kernel, packed])
def test_torch_func_grad_and_vmap_over_seeds_equal_autograd(device, function):
    leaves = [x.to(device) for x in inputs(1, 1, (2, 3), 4, 1, torch.float32)]
    many = [torch.stack((x, 0.5 * x)) for x in leaves]
    gradient = torch.func.grad(partial(of_grid, function=function), argnums=tuple(range(6)))
    batched = torch.func.vmap(gradient)(*many)
    for i in range(2):
        one = [x[i].clone().requires_grad_() for x in many]
        for a, b in zip(batched, torch.autograd.grad(of_grid(*one), one), strict=True):
            torch.testing.assert_close(a[i], b)


def test_per_sample_gradients_sum_to_the_batchs(device):
    q, k, v, *rest = (x.to(device) for x in inputs(2, 1, (2, 3), 4, 1, torch.float32))

    def of_one(q, k, v, weight):
        return of_grid(q[None], k[None], v[None], weight, *rest[1:])

    each = torch.func.vmap(torch.func.grad(of_one, argnums=3), in_dims=(0, 0, 0, None))(q, k, v, rest[0])
    leaf = rest[0].clone().requires_grad_()
    (whole,) = torch.autograd.grad(of_grid(q, k, v, leaf, *rest[1:]), leaf)
    torch.testing.assert_close(each.sum(0), whole)


@compiles_requires_grad
@torch._dynamo.config.patch(trace_autograd_ops=True)
def test_a_compiled_step_gives_the_eager_gradients(device):
    leaves = [x.to(device) for x in inputs(1, 2, (2, 3), 4, 1, torch.float32)]

    def step(leaves):
        return value_and_grads(kernel, leaves, grid=(2, 3), prefix=1)

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for a, b in zip(compiled(leaves), step(leaves), strict=True):
        torch.testing.assert_close(a, b)


def test_the_ops_pass_pytorchs_own_checks(device):
    """Fake results in shape, type and strides as the real ones."""
    q, k, v, weight, bias, gate = (x.to(device) for x in inputs(1, 2, (2, 3), 4, 1, torch.float32))
    arguments = (q, k, v, *position_attention(weight, bias, (2, 3)), gate.sigmoid())
    for keep in (True, False):
        torch.library.opcheck(torch.ops.blocks.gpsa.default, (*arguments, 0.5, 1, keep), test_utils=FAKE)
    found = torch.ops.blocks.gpsa(*arguments, 0.5, 1, True)
    torch.library.opcheck(
        torch.ops.blocks.gpsa_backward.default, (found[0], *arguments, *found[1:], 0.5, 1), test_utils=FAKE
    )


FAKE = ("test_schema", "test_faketensor")


def test_without_gradients_no_content_is_made(device):
    q, k, v, weight, bias, gate = (x.to(device) for x in inputs(1, 2, (2, 3), 4, 0, torch.float32))
    arguments = (q, k, v, *position_attention(weight, bias, (2, 3)), gate.sigmoid())
    assert torch.ops.blocks.gpsa(*arguments, 0.5, 0, False)[1].numel() == 0
    with torch.no_grad():
        quiet = gpsa(*arguments, impl="triton")
    assert torch.equal(quiet, gpsa(*arguments, impl="triton"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda q, k, v: (q.double(), k.double(), v.double()), "torch.float64, and the kernels want one of"),
        (lambda q, k, v: (q.half(), k, v), "q, k, v are torch.float16, torch.float32, torch.float32"),
        (lambda q, k, v: (x.repeat(1, 1, 1, 40) for x in (q, k, v)), "heads have 160 channels"),
    ],
)
def test_what_the_kernels_cannot_do_is_said(device, change, reason):
    q, k, v, weight, bias, gate = (x.to(device) for x in inputs(1, 2, (2, 3), 4, 0, torch.float32))
    rows, cols = position_attention(weight, bias, (2, 3))
    with pytest.raises(ValueError, match=reason):
        gpsa(*change(q, k, v), rows, cols, gate.sigmoid(), impl="triton")
