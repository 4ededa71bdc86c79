"""GELU by PyTorch: the formula, whichever of its kernels computes it."""

import pytest
import torch

from blocks.ops.gelu import SMALL, gelu, gelu_plain, linear_gelu
from blocks.random import key, normal, split

SHAPES = [(34, 128), (1, 7), (SMALL // 64, 64), (SMALL // 64 + 1, 64), (2, 3, 5), (9,), (0, 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gelu_and_its_gradient_are_the_formulas(shape):
    x, grad = (normal(each, shape).double() for each in split(key(0)).unbind())
    x.requires_grad_()
    by_formula = torch.autograd.grad(gelu_plain(x), x, grad)[0]
    torch.testing.assert_close(gelu(x), gelu_plain(x), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(torch.autograd.grad(gelu(x), x, grad)[0], by_formula, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows", [34, SMALL], ids=["few", "many"])
def test_few_numbers_and_many_go_by_other_kernels_to_the_same_float32(rows):
    x = (4 * normal(key(0), (rows, 128))).requires_grad_()
    grad = normal(key(1), x.shape)
    wanted = gelu_plain(x.double())
    torch.testing.assert_close(gelu(x), wanted.float(), rtol=1e-5, atol=2e-6)  # oneDNN's is off by 1.2e-6
    found, *_ = torch.autograd.grad(gelu(x), x, grad)
    torch.testing.assert_close(found, torch.autograd.grad(wanted, x, grad.double())[0], rtol=1e-5, atol=1e-5)


def test_few_numbers_come_contiguous_and_are_not_onednn_s(monkeypatch):
    x = normal(key(0), (34, 128))
    seen = []
    monkeypatch.setattr(torch.nn.functional, "gelu", lambda y: seen.append(y.is_contiguous()) or y)
    assert gelu(x).is_contiguous()
    gelu(normal(key(0), (SMALL, 2)))
    assert seen == [False, True]


def test_mapped_and_twice_differentiated():
    x = normal(key(0), (3, 4, 5)).double()
    torch.testing.assert_close(torch.vmap(gelu)(x), gelu_plain(x))
    assert torch.autograd.gradgradcheck(gelu, x[0].clone().requires_grad_())


def test_the_product_before_it_takes_any_rows():
    x, weight, bias = normal(key(0), (2, 3, 8)), normal(key(1), (16, 8)), normal(key(2), (16,))
    torch.testing.assert_close(linear_gelu(x, weight, bias), gelu_plain(x @ weight.T + bias), rtol=1e-5, atol=1e-6)
