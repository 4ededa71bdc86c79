"""The cross-entropy kernel, of labels and between views, against float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")

from blocks.ops.cross_entropy import cross_entropy, row_losses, row_losses_plain
from blocks.ops.cross_view import cross_view, soft_cross_entropy, soft_cross_entropy_reference
from blocks.ops.kernels import cross_entropy as kernel
from blocks.random import key, normal

TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}  # half: the gradient's own rounding


@pytest.fixture(autouse=True, scope="module")
def _narrow():
    """Rows of a few numbers are several blocks."""
    widest, kernel.WIDEST = kernel.WIDEST, 8
    yield
    kernel.WIDEST = widest


def value_and_grad(function, scores, *rest, **how):
    scores = scores.detach().requires_grad_()
    losses = function(scores, *rest, **how)
    weights = torch.linspace(0.5, 2.0, losses.numel(), device=losses.device, dtype=losses.dtype).view(losses.shape)
    return losses.detach().double(), torch.autograd.grad(losses, scores, weights)[0].double()


def made(seed, shape, dtype, device, strided):
    """Normal numbers, with gaps between them in memory where strided."""
    wide = normal(key(seed), (*shape[:-1], 2 * shape[-1]), torch.float32).to(device, dtype)
    return wide[..., ::2] if strided else wide[..., : shape[-1]].contiguous()


def assert_near(ours, theirs, dtype):
    """Losses are float32 whatever the scores are."""
    torch.testing.assert_close(ours[0], theirs[0], rtol=3e-6, atol=3e-6)
    torch.testing.assert_close(ours[1], theirs[1], rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 3),
    width=st.sampled_from([1, 2, 7, 8, 21]),
    dtype=st.sampled_from(list(TOLERANCE)),
    smoothing=st.sampled_from([0.0, 0.1]),
    soft=st.booleans(),
    strided=st.booleans(),
)
def test_labels_cost_what_they_do_in_float64(device, rows, width, dtype, smoothing, soft, strided):
    logits = made(rows, (rows, width), dtype, device, strided)
    labels = torch.arange(rows, device=device) * 5 % width
    if soft:
        labels = made(7, (rows, width), torch.float32, device, strided).softmax(-1)
    wide = logits.double(), labels.double() if soft else labels, smoothing
    assert_near(
        value_and_grad(row_losses, logits, labels, smoothing),
        value_and_grad(row_losses_plain, *wide),
        dtype,
    )


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    pairs=st.sampled_from([((0,),), ((0,), (1,)), ((1, 0), ()), ((0, 1), (0, 1, 1), (1,))]),
    rows=st.integers(1, 3),
    width=st.sampled_from([1, 7, 16, 19]),
    dtype=st.sampled_from(list(TOLERANCE)),
    strided=st.booleans(),
)
def test_views_cost_what_they_do_in_float64(device, pairs, rows, width, dtype, strided):
    """Also where a view predicts nothing, and where codes do not sum to 1."""
    scores = made(rows, (len(pairs), rows, width), dtype, device, strided)
    codes = made(9, (2, rows, width), torch.float32, device, strided).abs()
    assert_near(
        value_and_grad(soft_cross_entropy, scores, codes, pairs, 0.25, impl="triton"),
        value_and_grad(soft_cross_entropy_reference, scores.double(), codes.double(), pairs, 0.25),
        dtype,
    )


def test_large_scores_lose_no_digit_and_masked_classes_cost_nothing(device):
    logits = torch.tensor([[1e4, -1e4, 9998.0], [-1e4, -1e4, -1e4], [3.0, -torch.inf, 2.0], [-3e38, 0.0, -1e30]])
    labels = torch.tensor([2, 1, 0, 1])
    losses, grad = value_and_grad(row_losses, logits.to(device), labels.to(device), 0.0)
    expected, slope = value_and_grad(F.cross_entropy, logits.double(), labels, reduction="none")
    torch.testing.assert_close(losses.cpu(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(grad.cpu(), slope, rtol=1e-3, atol=1e-6)  # a log sum of 1e4 has steps of 1e-3
    soft = torch.eye(3, device=device)[labels[2:3]]
    assert cross_entropy(logits[2:3].to(device), soft, impl="triton").isfinite()


def test_a_row_of_minus_100_costs_nothing_and_an_unknown_label_is_not_hidden(device):
    logits, labels = made(3, (3, 5), torch.float32, device, False), torch.tensor([-100, 5, 4], device=device)
    losses, grad = value_and_grad(row_losses, logits, labels, 0.1)
    assert losses[0] == 0
    assert (grad[0] == 0).all()
    assert losses.isnan().tolist() == [False, True, False]


def test_not_a_number_and_infinity_are_not_hidden(device):
    logits = torch.tensor([[0.0, torch.nan, 1.0], [torch.inf, 0.0, 1.0]], device=device)
    assert row_losses(logits, torch.tensor([0, 1], device=device), 0.0).isnan().all()


def test_no_row_costs_nothing(device):
    logits = torch.zeros(0, 3, device=device, requires_grad=True)
    losses = row_losses(logits, torch.zeros(0, dtype=torch.int64, device=device), 0.0)
    assert losses.shape == (0,)
    assert torch.autograd.grad(losses.sum(), logits)[0].shape == (0, 3)


def views_of(device):
    scores, codes = made(1, (2, 2, 9), torch.float32, device, False), made(2, (2, 2, 9), torch.float32, device, False)
    return scores, codes.softmax(-1)


def test_torch_func_takes_it(device):
    scores, codes = views_of(device)
    many = torch.stack((scores, -scores), 1)
    labels = torch.tensor([[3, 1], [0, 2]], device=device)

    def between(scores, codes, impl):
        return cross_view(scores, codes, 0.3, impl=impl)

    def labelled(logits, labels, impl):
        return cross_entropy(logits, labels, 0.1, impl=impl)

    for function, first, second, dims in (
        (between, many, codes, (1, None, None)),
        (between, scores, torch.stack((codes, codes.flip(0))), (None, 0, None)),
        (labelled, scores, labels, (0, 0, None)),
        (labelled, scores[0], labels, (None, 0, None)),
    ):
        ours, plain = (torch.vmap(function, dims)(first, second, impl) for impl in ("triton", "plain"))
        torch.testing.assert_close(ours, plain)
        slopes = (torch.vmap(torch.func.grad(function), dims)(first, second, impl) for impl in ("triton", "plain"))
        torch.testing.assert_close(*slopes)


def test_it_compiles_into_one_graph_and_is_the_same_twice(device):
    scores, codes = views_of(device)

    def loss(scores):
        return cross_view(scores, codes, 0.3, impl="triton") + cross_entropy(scores[0], codes[1], impl="triton")

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for a, b, c in zip(*(value_and_grad(f, scores) for f in (compiled, loss, loss)), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(b, c)


def test_the_definitions_are_sound(device):
    """Schema, fake outputs, no hidden aliasing."""
    scores, codes = views_of(device)
    arguments = scores, codes, [0, 1, 1, 0], 2.0, 1.0, 0.0
    checks = "test_schema", "test_faketensor"
    torch.library.opcheck(torch.ops.blocks.cross_entropy_forward, arguments, test_utils=checks)
    log_sums = (scores * 2).logsumexp(-1)
    backward = scores, codes, [0, 1, 1, 0], log_sums, log_sums, 2.0, 1.0, 0.0
    torch.library.opcheck(torch.ops.blocks.cross_entropy_backward, backward, test_utils=checks)
