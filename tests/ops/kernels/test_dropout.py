"""Dropout by keys in one kernel, against the composition of draws and a choice."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")

from blocks.ops.dropout import keyed_dropout
from blocks.random import fold_in, key, normal, split
from tests.torch_versions import compiles_requires_grad


def inputs(shape, device, dtype=torch.float32):
    """x and a key for each sample."""
    return normal(key(1), tuple(shape)).to(device, dtype), split(key(2), shape[0]).to(device)


def close(ours, theirs):
    """Dropped alike, and equal: but a GPU's operations multiply by 1 / (1 - rate), which rounds in another way than to
    divide, and the interpreter cuts off what bfloat16 does not hold.
    """
    rounds = ours.is_cuda or ours.dtype == torch.bfloat16
    assert torch.equal(ours == 0, theirs == 0)
    torch.testing.assert_close(ours, theirs, rtol=torch.finfo(ours.dtype).eps * rounds, atol=0)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.sampled_from([0.1, 0.5, 0.9]))
@settings(max_examples=12, deadline=None, derandomize=True)
def test_the_same_numbers_are_dropped_as_by_draws(device, shape, rate):
    x, keys = inputs(shape, device)
    close(keyed_dropout(x, keys, rate, impl="triton"), keyed_dropout(x, keys, rate, impl="plain"))


@pytest.mark.parametrize("size", [1023, 1024, 1025, 2500])
def test_a_sample_of_several_programs(device, size):
    x, keys = inputs((2, size), device)
    close(keyed_dropout(x, keys, 0.3, impl="triton"), keyed_dropout(x, keys, 0.3, impl="plain"))


@pytest.mark.parametrize("place", [0, 1, 2, 16])
def test_a_place_is_folded_into_the_keys(device, place):
    x, keys = inputs((3, 40), device)
    found = keyed_dropout(x, keys, 0.3, place, impl="triton")
    close(found, keyed_dropout(x, keys, 0.3, place, impl="plain"))
    close(found, keyed_dropout(x, fold_in(keys, place), 0.3, impl="triton"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(device, dtype):
    x, keys = inputs((3, 11), device, dtype)
    found = keyed_dropout(x, keys, 0.3, impl="triton")
    assert found.dtype == dtype
    close(found, keyed_dropout(x, keys, 0.3, impl="plain"))


def test_any_memory_order_and_what_is_not_finite(device):
    x, keys = inputs((6, 5), device)
    x[0], x[1, 2] = torch.inf, torch.nan
    x, keys = x.T.contiguous().T, keys.flip(0)
    found, wanted = (keyed_dropout(x, keys, 0.5, impl=impl) for impl in ("triton", "plain"))
    assert found[0].isinf().any()
    assert (found[0] == 0).any()  # an infinity that is dropped is 0
    torch.testing.assert_close(found, wanted, equal_nan=True)


def test_the_gradient_is_dropped_by_the_same_keys_and_so_is_its_own(device):
    x, keys = inputs((3, 9), device)
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    for leaf, impl in ((ours, "triton"), (theirs, "plain")):
        (grad,) = torch.autograd.grad(keyed_dropout(leaf, keys, 0.4, impl=impl).sin().sum(), leaf, create_graph=True)
        leaf.first = grad
        (leaf.second,) = torch.autograd.grad(grad.sum(), leaf)
    for order in ("first", "second"):
        assert torch.equal(getattr(ours, order) == 0, getattr(theirs, order) == 0)
        torch.testing.assert_close(getattr(ours, order), getattr(theirs, order))


def loss(x, keys):
    return keyed_dropout(x, keys, 0.4, impl="triton").square().sum()


@pytest.mark.parametrize("dims", [(0, 0), (0, None), (None, 0)])
def test_torch_func_grad_and_vmap_equal_autograd(device, dims):
    x, keys = inputs((6, 5), device)
    many = [t.view(2, 3, -1) if dim == 0 else t[:3] for t, dim in zip((x, keys), dims, strict=True)]
    batched = torch.func.vmap(torch.func.grad(loss), in_dims=dims)(*many)
    for i in range(2):
        one, own = (t[i] if dim == 0 else t for t, dim in zip(many, dims, strict=True))
        leaf = one.clone().requires_grad_()
        torch.testing.assert_close(batched[i], torch.autograd.grad(loss(leaf, own), leaf)[0])


@compiles_requires_grad
@torch._dynamo.config.patch(trace_autograd_ops=True)
def test_a_compiled_step_gives_the_eager_gradients(device):
    x, keys = inputs((3, 5), device)

    def step(x):
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(loss(leaf, keys), leaf)[0]

    close(torch.compile(step, fullgraph=True, backend="aot_eager")(x), step(x))


def test_the_op_passes_pytorchs_own_checks(device):
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(torch.ops.blocks.keyed_dropout.default, (*inputs((3, 5), device), 0.3, 1), test_utils=checks)


@pytest.mark.parametrize(
    ("shape", "dtype", "count", "message"),
    [
        ((3, 2), torch.float64, 3, r"x is torch\.float64"),
        ((3, 2), torch.float32, 2, r"keys are torch\.int32 \[2, 2\]"),
        ((3, 0), torch.float32, 3, "x is empty"),
    ],
)
def test_what_the_kernel_cannot_do_is_said(device, shape, dtype, count, message):
    x, keys = torch.zeros(shape, device=device, dtype=dtype), split(key(0), count).to(device)
    with pytest.raises(ValueError, match=message):
        keyed_dropout(x, keys, 0.5, impl="triton")
