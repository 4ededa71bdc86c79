"""The op against its paper's formula, and its two implementations against each other."""

from itertools import product

import pytest
import torch

from blocks.ops.batch_norm import alone, batch_norm, over_processes

BOTH = (alone, over_processes)  # over one process the second's formula is what the first computes
C = 5


def numbers(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 3 + 7


def inputs(*shape):
    """(x, weight, bias)."""
    return numbers(*shape), numbers(C, seed=1), numbers(C, seed=2)


def formula(x, weight, bias, eps):
    """x [n, C] by Ioffe & Szegedy 2015, algorithm 1, one channel after the other -> (y, moments [2, C])."""
    columns, moments = [], []
    for c, column in enumerate(x.unbind(1)):
        mean = sum(column) / len(column)
        squares = sum((value - mean) ** 2 for value in column)
        columns.append((column - mean) / (squares / len(column) + eps) ** 0.5 * weight[c] + bias[c])
        moments.append(torch.stack((mean, squares / (len(column) - 1))))
    return torch.stack(columns, 1), torch.stack(moments, 1)


def results(norm, *leaves, eps=1e-5):
    """[y, moments, the gradients of a weighted sum of y to x, weight and bias]."""
    leaves = [t.detach().requires_grad_() for t in leaves]
    y, moments = norm(*leaves, eps)
    return [y, moments, *torch.autograd.grad((y * numbers(*y.shape, seed=3)).sum(), leaves)]


@pytest.mark.parametrize("norm", [*BOTH, batch_norm])
@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_it_is_the_paper_s_formula_with_its_gradients(norm, eps):
    leaves = inputs(6, C)
    for found, expected in zip(results(norm, *leaves, eps=eps), results(formula, *leaves, eps=eps), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_without_weight_and_bias_only_moments_change():
    x, ones, zeros = numbers(6, C), torch.ones(C, dtype=torch.float64), torch.zeros(C, dtype=torch.float64)
    for norm in BOTH:
        torch.testing.assert_close(norm(x, None, None, 1e-3), norm(x, ones, zeros, 1e-3), rtol=1e-12, atol=1e-12)


def test_moments_have_no_gradient():
    leaves = [t.requires_grad_() for t in inputs(6, C)]
    assert not any(norm(*leaves, 1e-5)[1].requires_grad for norm in BOTH)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_moments_of_half_precision_are_float32(dtype):
    """Of 1,000 values near 100 with deviation 3: a sum in half precision would be off by far more than rounding."""
    x = (3 * torch.randn(1000, C, generator=torch.Generator().manual_seed(0)) + 100).to(dtype)
    affine = [t.float() for t in inputs(1, C)[1:]]
    for norm, weight_and_bias in product(BOTH, (affine, (None, None))):
        y, (mean, var) = norm(x, *weight_and_bias, 1e-5)
        assert (y.dtype, mean.dtype, var.dtype) == (dtype, torch.float32, torch.float32)
        torch.testing.assert_close(mean, x.double().mean(0), check_dtype=False, rtol=1e-5, atol=0)
        torch.testing.assert_close(var, x.double().var(0), check_dtype=False, rtol=1e-4, atol=0)
        expected = norm(x.double(), *(t if t is None else t.double() for t in weight_and_bias), 1e-5)[0]
        torch.testing.assert_close(y, expected, check_dtype=False, rtol=torch.finfo(dtype).eps, atol=1e-3)


def test_a_large_mean_does_not_drown_the_variance():
    """Deviations of 1 around 10,000 in float32: E[x^2] - E[x]^2 would lose all digits."""
    x = torch.randn(64, C, generator=torch.Generator().manual_seed(0)) + 1e4
    for norm in BOTH:
        torch.testing.assert_close(norm(x, None, None, 1e-5)[1][1].double(), x.double().var(0), rtol=1e-5, atol=0)


def test_channels_that_do_not_vary_become_zero():
    """But for the rounding of x / sqrt(eps), and of eps in the variance."""
    x = torch.full((4, C), 3.0)
    for norm in BOTH:
        y, (_, var) = norm(x, None, None, 1e-5)
        assert y.abs().max() < 3.0 / 1e-5**0.5 * 2**-22
        assert var.max() < 1e-5 * 2**-22
