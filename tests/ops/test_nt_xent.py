"""NT-Xent, each pair of rows made once: against the paper's formula, in float64, values and gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch.func import grad, vmap

from bench.measure import kept_bytes
from blocks.ops import nt_xent as op
from blocks.ops.nt_xent import nt_xent, nt_xent_plain
from blocks.random import key, normal

TIGHT = {"rtol": 1e-11, "atol": 1e-11}


def unit(seed, *shape):
    return F.normalize(normal(key(seed), shape, torch.float64), dim=-1)


def by_hand(z, temperature):
    """Chen et al. 2020, equation 1, term by term; of more than two views, each pair on its own."""
    views, images, terms = len(z), z.shape[1], []

    def similarity(v, i, w, j):
        return torch.exp(z[v, i] @ z[w, j] / temperature)

    for i in range(images):
        for v in range(views):
            negatives = sum(similarity(v, i, w, j) for j in range(images) if j != i for w in range(views))
            for w in range(views):
                if w != v:
                    positive = similarity(v, i, w, i)
                    terms.append(-torch.log(positive / (positive + negatives)))
    return torch.stack(terms).mean()


def algorithm_1(z, temperature):
    """SimCLR as cross-entropy over 2 N - 1 candidates, rows 2 k - 1 and 2 k being a pair (their algorithm 1)."""
    rows = z.transpose(0, 1).flatten(0, 1)
    scores = (rows @ rows.T / temperature).fill_diagonal_(-torch.inf)
    return F.cross_entropy(scores, torch.arange(len(rows)) ^ 1)


def value_and_grad(function, z, temperature):
    z = z.detach().requires_grad_()
    loss = function(z, temperature)
    return loss.detach(), torch.autograd.grad(loss, z)[0]


@pytest.mark.parametrize("strip", [1 << 20, 30, 1])
@pytest.mark.parametrize("function", [nt_xent, nt_xent_plain])
@pytest.mark.parametrize(("views", "images"), [(2, 2), (2, 7), (3, 5), (5, 2)])
def test_it_is_the_papers_formula_in_float64_with_the_gradient(function, views, images, strip, monkeypatch):
    """In one strip, in some, and an image at a time."""
    monkeypatch.setitem(op.STRIP, "cpu", strip)
    z = unit(1, views, images, 6)
    for a, b in zip(value_and_grad(function, z, 0.2), value_and_grad(by_hand, z, 0.2), strict=True):
        torch.testing.assert_close(a, b, **TIGHT)


@pytest.mark.parametrize("temperature", [0.03, 0.1, 1.0, 50.0])
def test_two_views_are_simclrs_cross_entropy(temperature):
    z = unit(2, 2, 9, 12)
    for a, b in zip(value_and_grad(nt_xent, z, temperature), value_and_grad(algorithm_1, z, temperature), strict=True):
        torch.testing.assert_close(a, b, **TIGHT)


@pytest.mark.parametrize("temperature", [1e-4, 0.0249, 0.0251, 1e4])
@pytest.mark.parametrize("opposite", [False, True])
def test_no_temperature_overflows_in_float32(temperature, opposite):
    """Opposite images make the smallest sums: exp(-2 / T) each."""
    z = unit(3, 2, 8, 5)
    if opposite:
        z = z[:1, :1] * torch.tensor([1.0, -1.0], dtype=torch.float64)[None, :, None].expand(2, -1, -1)
    loss, to_z = value_and_grad(nt_xent, z.float(), temperature)
    wide, to_wide = value_and_grad(nt_xent_plain, z, temperature)
    torch.testing.assert_close(loss.double(), wide, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(to_z.double(), to_wide, rtol=1e-3, atol=1e-5 * max(1, 1 / temperature))


def test_identical_embeddings_cost_the_logarithm_of_the_candidates():
    z = unit(4, 1, 1, 5).expand(2, 6, -1)
    torch.testing.assert_close(nt_xent(z, 0.1), torch.tensor(11.0, dtype=torch.float64).log(), **TIGHT)


def test_views_in_another_order_cost_the_same():
    z = unit(5, 3, 6, 8)
    torch.testing.assert_close(nt_xent(z[[2, 0, 1]], 0.1), nt_xent(z, 0.1), **TIGHT)
    torch.testing.assert_close(nt_xent(z[:, [3, 1, 0, 2, 5, 4]], 0.1), nt_xent(z, 0.1), **TIGHT)


def test_it_composes_with_func_grad_and_vmap():
    z = unit(6, 3, 2, 4, 8)
    ours, theirs = (vmap(grad(lambda z, f=f: f(z, 0.1)))(z) for f in (nt_xent, nt_xent_plain))
    torch.testing.assert_close(ours, theirs, **TIGHT)


def test_it_compiles_as_one_graph():
    z = unit(7, 2, 4, 8)
    compiled = torch.compile(nt_xent, backend="aot_eager", fullgraph=True)
    for a, b in zip(value_and_grad(compiled, z, 0.1), value_and_grad(nt_xent, z, 0.1), strict=True):
        torch.testing.assert_close(a, b, **TIGHT)


def test_a_second_derivative_is_an_error_and_no_wrong_number():
    z = unit(8, 2, 4, 8).requires_grad_()
    (first,) = torch.autograd.grad(nt_xent(z, 0.1), z, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_the_scores_are_not_kept_for_the_backward_pass():
    z = unit(9, 2, 256, 8).requires_grad_()
    assert kept_bytes(lambda: nt_xent(z, 0.1)) < 20 * z.numel() * z.element_size()  # the scores: 64 times z
