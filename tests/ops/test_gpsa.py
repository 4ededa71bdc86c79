"""The separable GPSA against the paper's formula, and its backward in every way that torch differentiates."""

import pytest
import torch

from bench.measure import kept_bytes
from blocks.ops.gpsa import gpsa, gpsa_dense, position_attention, position_attention_dense
from blocks.random import key, normal, per_sample, split
from tests.torch_versions import compiles_requires_grad

NAMES = ("q", "k", "v", "weight", "bias", "gate")
CASES = [  # batch, heads, grid, channels, prefix tokens
    (2, 3, (4, 4), 5, 0),
    (2, 3, (3, 5), 4, 0),
    (3, 4, (5, 2), 6, 0),
    (1, 2, (1, 4), 3, 0),
    (1, 2, (5, 2), 3, 1),
    (3, 4, (1, 6), 8, 2),
]


def inputs(batch, heads, grid, channels, prefix, dtype=torch.float64):
    """Leaves q, k, v (as views of [B, N, h d], like a linear layer's), weight, bias, gate before its sigmoid."""
    tokens = prefix + grid[0] * grid[1]
    keys = split(key(7), 6)
    qkv = [normal(k, (batch, tokens, heads * channels), dtype) for k in keys[:3]]
    rest = [normal(k, shape, dtype) for k, shape in zip(keys[3:], [(heads, 3), (heads,), (heads,)], strict=True)]
    return [x.unflatten(-1, (heads, channels)).transpose(1, 2) for x in qkv] + [0.4 * rest[0], *rest[1:]]


def separable(q, k, v, weight, bias, gate, grid, prefix, **options):
    rows, cols = position_attention(weight, bias, grid)
    return gpsa(q, k, v, rows, cols, gate.sigmoid(), num_prefix_tokens=prefix, **options)


def paper(q, k, v, weight, bias, gate, grid, prefix, scale=None):
    """Equations 6 to 8 with every map materialised; a prefix row has gate 0 and prefix columns no position."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    position = position_attention_dense(weight, bias, grid)
    position = torch.nn.functional.pad(position, (prefix, 0, prefix, 0))
    gates = gate.sigmoid()[:, None, None] * (torch.arange(v.shape[2]) >= prefix)[:, None]
    weights = (1 - gates) * (q @ k.mT * scale).softmax(-1) + gates * position
    return (weights / weights.sum(-1, keepdim=True)) @ v


def value_and_grads(function, leaves, *rest, **options):
    leaves = [x.detach().requires_grad_() for x in leaves]
    out = function(*leaves, *rest, **options)
    direction = normal(key(8), tuple(out.shape), out.dtype)
    return [out.detach(), *torch.autograd.grad(out, leaves, direction)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("scale", [None, 0.3])
def test_it_equals_the_papers_formula_in_float64_with_all_gradients(case, scale):
    leaves, (grid, prefix) = inputs(*case), (case[2], case[4])
    ours = value_and_grads(separable, leaves, grid, prefix, scale=scale)
    theirs = value_and_grads(paper, leaves, grid, prefix, scale=scale)
    for name, a, b in zip(("value", *NAMES), ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("case", CASES)
def test_the_dense_form_equals_the_papers_formula(case):
    leaves, (grid, prefix) = inputs(*case), (case[2], case[4])

    def dense(q, k, v, weight, bias, gate):
        rows, cols = position_attention(weight, bias, grid)
        return gpsa_dense(q, k, v, rows, cols, gate.sigmoid(), num_prefix_tokens=prefix)

    ours, theirs = value_and_grads(dense, leaves), value_and_grads(paper, leaves, grid, prefix)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("grid", [(3, 3), (2, 5), (1, 1)])
def test_the_two_factors_give_the_papers_position_attention(grid):
    *_, weight, bias, _ = inputs(1, 4, grid, 2, 0)
    rows, cols = position_attention(weight, bias, grid)
    position = torch.stack([torch.kron(r, c) for r, c in zip(rows, cols, strict=True)])
    torch.testing.assert_close(position, position_attention_dense(weight, bias, grid), rtol=1e-13, atol=1e-15)


def test_position_is_computed_in_float32_at_least():
    *_, weight, bias, _ = inputs(1, 4, (3, 3), 2, 0)
    for dtype, wanted in [(torch.bfloat16, torch.float32), (torch.float64, torch.float64)]:
        assert {f.dtype for f in position_attention(weight.to(dtype), bias.to(dtype), (3, 3))} == {wanted}


def test_no_position_is_subnormal():
    """A local head's far places would be, and a CPU multiplies by subnormal numbers many times slower."""
    weight = torch.tensor([[2.0, 0.0, -1.0], [0.0, -2.0, -1.0]])
    for factor in position_attention(weight, torch.zeros(2), (14, 14)):
        assert ((factor == 0) | (factor > 1e-15)).all()
        assert (factor == 0).any()
        torch.testing.assert_close(factor.sum(-1), torch.ones(2, 14))


def test_the_bias_gets_a_gradient_of_exactly_zero():
    """Textbook rounding would leave noise there, which AdamW turns into whole steps."""
    leaves = inputs(2, 3, (4, 4), 5, 0, torch.float32)
    grad = dict(zip(NAMES, value_and_grads(separable, leaves, (4, 4), 0)[1:], strict=True))["bias"]
    assert torch.equal(grad, torch.zeros(3))


@pytest.mark.parametrize("case", [(2, 2, (1, 3), 2, 0), (1, 1, (2, 2), 2, 1)])
def test_gradients_pass_gradcheck_twice(case):
    leaves = [x.requires_grad_() for x in inputs(*case)]

    def function(*leaves):
        return separable(*leaves, case[2], case[4])

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # flash has no second derivative
        assert torch.autograd.gradcheck(function, leaves)
        assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)


def loss(*leaves):
    return separable(*leaves, (3, 5), 0).square().sum()


def test_torch_func_grad_equals_autograd():
    leaves = [x.requires_grad_() for x in inputs(2, 3, (3, 5), 4, 0)]
    wanted = torch.autograd.grad(loss(*leaves), leaves)
    found = torch.func.grad(loss, argnums=tuple(range(6)))(*(x.detach() for x in leaves))
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_vmap_over_seeds_equals_the_loop():
    many = [torch.stack((x, 0.5 * x)) for x in inputs(2, 3, (3, 5), 4, 0)]
    grad = torch.func.grad(loss, argnums=tuple(range(6)))
    batched = torch.func.vmap(grad)(*many)
    for i in range(2):
        for a, b in zip(batched, grad(*(x[i] for x in many)), strict=True):
            torch.testing.assert_close(a[i], b, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_per_sample_gradients_sum_to_the_batchs():
    q, k, v, *rest = inputs(3, 2, (2, 3), 4, 0)

    def of_one(q, k, v, weight):
        return separable(q[None], k[None], v[None], weight, *rest[1:], (2, 3), 0).square().sum()

    each = torch.func.vmap(torch.func.grad(of_one, argnums=3), in_dims=(0, 0, 0, None))(q, k, v, rest[0])
    leaf = rest[0].clone().requires_grad_()
    (whole,) = torch.autograd.grad(separable(q, k, v, leaf, *rest[1:], (2, 3), 0).square().sum(), leaf)
    torch.testing.assert_close(each.sum(0), whole, rtol=1e-12, atol=1e-12)


@compiles_requires_grad
@pytest.mark.parametrize("prefix", [0, 1])
@torch._dynamo.config.patch(trace_autograd_ops=True)
def test_a_compiled_step_gives_the_eager_gradients(prefix):
    leaves = inputs(2, 3, (3, 5), 4, prefix)

    def step(leaves):
        return value_and_grads(separable, leaves, (3, 5), prefix)

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for a, b in zip(compiled(leaves), step(leaves), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_bfloat16_stays_bfloat16_and_near_float64():
    leaves = inputs(2, 3, (4, 4), 8, 0)
    low = value_and_grads(separable, [x.bfloat16() for x in leaves], (4, 4), 0)
    high = value_and_grads(separable, [x.bfloat16().double() for x in leaves], (4, 4), 0)
    for a, b in zip(low, high, strict=True):
        assert a.dtype == torch.bfloat16
        assert (a.double() - b).abs().max() <= 0.02 * b.abs().max() + 1e-12


def test_nothing_is_kept_for_backward_beyond_what_sdpa_keeps():
    """One output of the op besides SDPA's would show: it is as large as v."""
    q, k, v, weight, bias, gate = (x.requires_grad_() for x in inputs(4, 3, (6, 6), 16, 0, torch.float32))
    rows, cols = position_attention(weight, bias, (6, 6))
    ours = kept_bytes(lambda: gpsa(q, k, v, rows, cols, gate.sigmoid()))
    plain = kept_bytes(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v))
    small = sum(x.numel() * x.element_size() for x in (rows, cols, gate, gate))
    assert ours <= plain + small


def test_prefix_tokens_attend_by_content_alone():
    q, k, v, weight, bias, gate = inputs(2, 3, (2, 3), 4, 1)
    out = separable(q, k, v, weight, bias, gate, (2, 3), 1)
    content = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    assert torch.equal(out[:, :, 0], content[:, :, 0])
    assert not torch.allclose(out[:, :, 1:], content[:, :, 1:])


def test_dropout_of_weights_is_unbiased_and_follows_the_samples_keys():
    leaves = inputs(1, 2, (2, 3), 4, 0)
    rest = (*position_attention(*leaves[3:5], (2, 3)), leaves[5].sigmoid())
    many = [x.expand(1000, -1, -1, -1) for x in leaves[:3]]
    dropped = gpsa_dense(*many, *rest, drop=0.4, key=key(1))
    last = gpsa_dense(*(x[990:] for x in many), *rest, drop=0.4, key=per_sample(key(1), 1000)[990:])
    torch.testing.assert_close(dropped[990:], last, rtol=1e-12, atol=1e-12)
    plain = gpsa_dense(*many, *rest, drop=0.4)
    error = dropped.std(0) / 1000**0.5
    assert ((dropped.mean(0) - plain[0]).abs() < 5 * error + 1e-12).all()
    assert (error > 0).all()


@pytest.mark.parametrize("function", [gpsa, gpsa_dense])
def test_a_grid_that_does_not_fit_the_tokens_is_an_error(function):
    q, k, v, weight, bias, gate = inputs(1, 2, (2, 3), 4, 1)
    rows, cols = position_attention(weight, bias, (2, 3))
    with pytest.raises(ValueError, match="7 tokens are not 0 prefix tokens and a grid of 2 x 3"):
        function(q, k, v, rows, cols, gate.sigmoid())
