"""InfoNCE against a queue by one attention call: against the scores in memory, in float64, and in every type."""

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import grad, vmap

from blocks.ops import queue_nce as op
from blocks.ops.queue_nce import attended, log_sum_exp, parts_of, queue_nce, queue_nce_plain, tiled
from blocks.random import key, normal
from tests.torch_versions import means_float64

TIGHT = {"rtol": 1e-12, "atol": 1e-12}


def unit(seed, *shape, dtype=torch.float64):
    return F.normalize(normal(key(seed), shape, torch.float64), dim=-1).to(dtype)


def case(batch=5, size=24, dim=8, dtype=torch.float64):
    return unit(1, batch, dim, dtype=dtype), unit(2, batch, dim, dtype=dtype), unit(3, size, dim, dtype=dtype)


def value_and_grads(function, q, k, queue, temperature):
    q, k = q.detach().requires_grad_(), k.detach().requires_grad_()
    losses = function(q, k, queue, temperature)
    weights = torch.arange(1.0, len(q) + 1, dtype=losses.dtype)
    return losses.detach(), *torch.autograd.grad((losses * weights).sum(), (q, k))


def by_hand(q, k, queue, temperature):
    """He et al. 2020, equation 1, sample by sample."""
    losses = []
    for one, own in zip(q, k, strict=True):
        positive = torch.exp(one @ own / temperature)
        negatives = sum(torch.exp(one @ old / temperature) for old in queue)
        losses.append(-torch.log(positive / (positive + negatives)))
    return torch.stack(losses)


@pytest.mark.parametrize("function", [queue_nce, queue_nce_plain])
@pytest.mark.parametrize("shape", [(5, 24, 8), (1, 1, 3), (3, 7, 5), (70, 6, 16)])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_it_is_the_papers_formula_in_float64_with_both_gradients(function, shape, temperature):
    leaves = case(*shape)
    ours = value_and_grads(function, *leaves, temperature)
    for a, b in zip(ours, value_and_grads(by_hand, *leaves, temperature), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_tiles_and_attention_agree(dtype, monkeypatch):
    """Half precision rounds its outputs to 3 digits; the sums are float32 in both, of weights that the CPU's kernel
    rounds before it adds them where all keys are one block."""
    monkeypatch.setattr(op, "TILE", 10)
    monkeypatch.setitem(op.BLOCKS, "cpu", 1)
    q, _, queue = case(dtype=dtype)
    half = dtype.itemsize == 2
    for found, expected, rough in zip(attended(q, queue, 5.0), tiled(q, queue, 5.0), (1e-4, 1e-2), strict=True):
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, **({"rtol": rough, "atol": rough / 2} if half else {}))


@pytest.mark.parametrize(("blocks", "parts"), [(1, 1), (2, 2), (7, 4), (64, 8)])
def test_a_queue_attended_to_in_parts_gives_the_same(blocks, parts, monkeypatch):
    """24 = 8 x 3: never more than 8 parts."""
    monkeypatch.setitem(op.BLOCKS, "cpu", blocks)
    q, k, queue = case()
    assert parts_of(q, queue) == parts
    ours = value_and_grads(queue_nce, q, k, queue, 0.1)
    for a, b in zip(ours, value_and_grads(queue_nce_plain, q, k, queue, 0.1), strict=True):
        torch.testing.assert_close(a, b, **TIGHT)


@pytest.mark.parametrize("temperature", [1e-4, 1e4])
def test_no_temperature_overflows(temperature):
    leaves = case(dtype=torch.float32)
    ours = value_and_grads(queue_nce, *leaves, temperature)
    wide = value_and_grads(queue_nce_plain, *(x.double() for x in leaves), temperature)
    for a, b in zip(ours, wide, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-6 * max(1, 1 / temperature))


def test_a_queue_of_the_key_alone_costs_ln_2_and_pulls_nowhere():
    q, k, _ = case(batch=1)
    losses, to_q, _ = value_and_grads(queue_nce, q, k, k, 0.2)
    torch.testing.assert_close(losses, torch.full_like(losses, 2.0).log(), **TIGHT)
    torch.testing.assert_close(to_q, torch.zeros_like(q), **TIGHT)


def test_the_queue_gets_no_gradient():
    q, k, queue = case()
    assert not log_sum_exp(q, queue.requires_grad_(), 0.2).requires_grad
    assert not queue_nce(q, k, queue, 0.2).requires_grad


def test_a_second_derivative_is_an_error_and_no_wrong_number():
    q, k, queue = case()
    q.requires_grad_()
    (first,) = torch.autograd.grad(queue_nce(q, k, queue, 0.2).sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize("dims", [(0, 0, None), (0, 0, 0), (None, None, 0)])
def test_it_composes_with_func_grad_and_vmap(dims):
    leaves = case() if dims[0] is None else (unit(4, 3, 5, 8), unit(5, 3, 5, 8), None)
    queue = unit(6, 3, 24, 8) if dims[2] == 0 else case()[2]

    def of(function):
        return grad(lambda q, k, queue: function(q, k, queue, 0.2).mean())

    ours, theirs = (vmap(of(f), dims)(*leaves[:2], queue) for f in (queue_nce, queue_nce_plain))
    torch.testing.assert_close(ours, theirs, **TIGHT)


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float64, marks=means_float64)])
def test_it_compiles_as_one_graph(dtype):
    compiled = torch.compile(queue_nce, backend="aot_eager", fullgraph=True)
    inputs = [x.to(dtype) for x in case()]
    ours = value_and_grads(compiled, *inputs, 0.2)
    for a, b in zip(ours, value_and_grads(queue_nce, *inputs, 0.2), strict=True):
        torch.testing.assert_close(a, b, **(TIGHT if dtype == torch.float64 else {}))


@pytest.mark.parametrize(("dim", "dtype", "fast"), [(128, torch.float32, True), (12, torch.float32, False)])
def test_on_cuda_the_shapes_are_right(dim, dtype, fast):
    """Without a GPU: shapes and devices only. A width that the kernel is not aligned for goes tile by tile."""
    with FakeTensorMode():
        q, queue = torch.empty(50, dim, device="cuda", dtype=dtype), torch.empty(4096, dim, device="cuda", dtype=dtype)
        assert (op.fused(q, queue) is op.cuda_attention) == fast
        assert not fast or parts_of(q, queue) == 256
        lse, mean = attended(q, queue, 5.0)
    assert (lse.shape, mean.shape) == ((50,), (50, dim))
    assert lse.device.type == mean.device.type == "cuda"
