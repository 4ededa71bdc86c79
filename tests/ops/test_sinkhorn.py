"""Sinkhorn's codes: shares, any range of scores, and the same in logarithms."""

import pytest
import torch

from blocks.ops.sinkhorn import sinkhorn, sinkhorn_reference
from blocks.random import key, normal


def scores_of(*shape, dtype=torch.float64, seed=0):
    return normal(key(seed), shape, dtype)


def papers(scores, epsilon, iterations):
    """SwAV, appendix A, with the shares written out: Q [K, B] of sum 1, rows to 1 / K, then columns to 1 / B."""
    q = (scores / epsilon).exp().T
    q = q / q.sum()
    prototypes, samples = q.shape
    for _ in range(iterations):
        for k in range(prototypes):
            q[k] = q[k] / q[k].sum() / prototypes
        for b in range(samples):
            q[:, b] = q[:, b] / q[:, b].sum() / samples
    return q.T * samples


@pytest.mark.parametrize("iterations", [1, 2, 3, 10])
@pytest.mark.parametrize("size", [(6, 4), (4, 9), (1, 5), (5, 1)])
def test_it_equals_the_papers_loop_in_float64(size, iterations):
    scores = scores_of(*size)
    torch.testing.assert_close(sinkhorn(scores, 0.3, iterations), papers(scores, 0.3, iterations), rtol=1e-12, atol=0)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
def test_it_equals_the_logarithms_at_any_range(scale):
    scores = scale * scores_of(40, 30)
    torch.testing.assert_close(sinkhorn(scores), sinkhorn_reference(scores), rtol=1e-9, atol=1e-14)


def test_many_iterations_share_samples_and_prototypes_evenly():
    for samples, prototypes in [(12, 8), (4, 60)]:
        codes = sinkhorn(scores_of(samples, prototypes).float(), 0.5, 300)
        torch.testing.assert_close(codes.sum(1), torch.ones(samples))
        torch.testing.assert_close(codes.sum(0), torch.full((prototypes,), samples / prototypes))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_codes_of_extreme_scores_are_shares_in_any_type(dtype, scale):
    codes = sinkhorn((scale * scores_of(64, 30)).clamp(-6e4, 6e4).to(dtype))
    assert codes.dtype == torch.float32
    assert (codes >= 0).all()
    torch.testing.assert_close(codes.sum(-1), torch.ones(64), rtol=1e-5, atol=0)


def test_float32_is_near_float64_where_scores_are_cosines():
    scores = scores_of(256, 100).tanh()
    torch.testing.assert_close(sinkhorn(scores.float()).double(), sinkhorn(scores), rtol=1e-4, atol=1e-7)


def test_samples_far_below_and_prototypes_far_from_all_have_their_share():
    """exp((s - max) / epsilon) is 0 in the whole first row and last column."""
    scores = scores_of(6, 4)
    scores[0] -= 5e3
    scores[:, -1] -= 5e3
    for dtype in (torch.float32, torch.float64):
        codes = sinkhorn(scores.to(dtype), iterations=8)
        expected = sinkhorn_reference(scores, iterations=8).to(dtype)
        torch.testing.assert_close(codes, expected, rtol=5e-2 if dtype == torch.float32 else 1e-9, atol=1e-3)


def test_one_prototype_takes_all_and_equal_scores_are_split_evenly():
    assert torch.equal(sinkhorn(scores_of(5, 1, dtype=torch.float32)), torch.ones(5, 1))
    torch.testing.assert_close(sinkhorn(torch.full((5, 4), 0.3)), torch.full((5, 4), 0.25))


def test_leading_axes_are_problems_of_their_own():
    scores = scores_of(3, 8, 5)
    for i in range(3):
        torch.testing.assert_close(sinkhorn(scores)[i], sinkhorn(scores[i]), rtol=1e-12, atol=0)
    turned = scores_of(2, 3, 8, 5).transpose(0, 1)
    torch.testing.assert_close(sinkhorn(turned), sinkhorn(turned.contiguous()), rtol=1e-12, atol=0)


def test_samples_that_are_not_counted_change_no_other_code():
    scores = scores_of(2, 9, 5)
    counted = torch.arange(9) >= 4
    codes = sinkhorn(scores, counted=counted)
    torch.testing.assert_close(codes[:, 4:], sinkhorn(scores[:, 4:]), rtol=1e-12, atol=0)
    torch.testing.assert_close(codes.sum(-1), torch.ones(2, 9, dtype=torch.float64), rtol=1e-12, atol=0)
    assert torch.equal(sinkhorn(scores, counted=torch.ones(9, dtype=torch.bool)), sinkhorn(scores))


def test_the_reference_knows_which_samples_count():
    scores, counted = scores_of(2, 9, 5), torch.arange(9) >= 4
    plain = sinkhorn(scores, counted=counted, impl="plain")
    torch.testing.assert_close(plain, sinkhorn(scores, counted=counted), rtol=1e-9, atol=1e-14)


def test_the_kernel_refuses_float64():
    with pytest.raises(ValueError, match="float64 is not one of float32"):
        sinkhorn(scores_of(2, 2), impl="triton")


@pytest.mark.parametrize("epsilon", [0.05, 0.01])  # the exponential can bear 2 / 0.05, not 2 / 0.01
def test_a_bound_changes_nothing_but_rounding(epsilon):
    scores = scores_of(2, 20, 30).tanh()
    scores[..., 0] = 0.1 * scores[..., 0] - 0.9  # a prototype far from all
    counted = torch.arange(20) > 3
    bounded = sinkhorn(scores, epsilon, counted=counted, bound=1.0)
    torch.testing.assert_close(bounded, sinkhorn(scores, epsilon, counted=counted), rtol=1e-10, atol=1e-15)
    single = sinkhorn(scores.float(), epsilon, bound=1.0)
    torch.testing.assert_close(single.double(), sinkhorn_reference(scores, epsilon), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("impl", ["torch", "plain"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_an_epsilon_of_a_schedule_is_a_tensor(impl, dtype):
    scores = scores_of(9, 5, dtype=torch.float64).to(dtype)
    for epsilon in (torch.tensor(0.3), torch.tensor(0.3, dtype=torch.float64)):
        found, wanted = (sinkhorn(scores, e, bound=bound, impl=impl) for e, bound in ((epsilon, 4.0), (0.3, None)))
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize("bound", [None, 1.0])
def test_codes_of_half_precision_are_computed_in_float32(bound):
    scores = scores_of(20, 30).tanh().to(torch.bfloat16)
    torch.testing.assert_close(sinkhorn(scores, bound=bound), sinkhorn(scores.float(), bound=bound), rtol=1e-6, atol=0)


def test_it_has_no_gradient_and_leaves_scores_alone():
    scores = scores_of(8, 5).requires_grad_()
    before = scores.detach().clone()
    assert not sinkhorn(scores).requires_grad
    assert torch.equal(scores, before)


def test_it_compiles_into_one_graph():
    scores = scores_of(8, 5)
    compiled = torch.compile(sinkhorn, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(scores), sinkhorn(scores))


def test_no_iteration_is_an_error():
    with pytest.raises(ValueError, match="0 iterations make no codes; use 1 or more"):
        sinkhorn(torch.zeros(2, 2), iterations=0)
