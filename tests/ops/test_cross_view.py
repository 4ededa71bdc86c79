"""The cross-entropy between views against one log-softmax a pair, and in every way that torch differentiates."""

import math

import pytest
import torch

from bench.measure import kept_bytes
from blocks.ops import tiles
from blocks.ops.cross_view import cross_view, others, soft_cross_entropy, soft_cross_entropy_reference
from blocks.random import key, normal, split

CASES = [  # views of the scores, the views that the codes come from
    (2, (0, 1)),
    (5, (0, 1)),
    (4, (0,)),
    (3, (0, 1, 2)),
    (4, (2, 0, 3)),
]


def inputs(num_views, views, rows=6, width=7, dtype=torch.float64):
    scores, codes = (
        normal(k, (n, rows, width), dtype) for k, n in zip(split(key(3)), (num_views, len(views)), strict=True)
    )
    return scores, (4 * codes).softmax(-1)


def value_and_grad(function, scores, *rest):
    scores = scores.detach().requires_grad_()
    out = function(scores, *rest)
    direction = normal(key(8), tuple(out.shape), torch.float64).to(out.dtype)
    return out.detach(), torch.autograd.grad(out, scores, direction)[0]


def papers(scores, codes, temperature, views):
    """SwAV's equations 1 and 2, DINO's 3: sample by sample, pair by pair."""
    found = []
    for place, a in enumerate(views):
        for v in range(len(scores)):
            if v != a:
                for row in range(scores.shape[1]):
                    logits = scores[v, row] / temperature
                    found.append(-(codes[place, row] * (logits - logits.exp().sum().log())).sum())
    return sum(found) / len(found)


@pytest.mark.parametrize(("num_views", "views"), CASES)
def test_it_equals_the_papers_sums_in_float64_with_their_gradient(num_views, views):
    scores, codes = inputs(num_views, views)
    for ours, theirs in zip(
        value_and_grad(cross_view, scores, codes, 0.3, views),
        value_and_grad(papers, scores, codes, 0.3, views),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


def test_by_default_codes_are_those_of_the_first_views():
    scores, codes = inputs(4, (0, 1))
    assert torch.equal(cross_view(scores, codes, 0.1), cross_view(scores, codes, 0.1, (0, 1)))


@pytest.mark.parametrize("tile", [1, 14, 1 << 20])
@pytest.mark.parametrize("pairs", [((0,), (1,)), ((1, 0), ()), ((0, 1), (0, 1, 1))])
def test_rows_equal_the_reference_for_any_pairs_weights_of_rows_and_tiles(monkeypatch, tile, pairs):
    """Also where a view predicts nothing, and where codes do not sum to 1."""
    monkeypatch.setattr(tiles, "CPU_TILE", tile)
    scores, codes = inputs(2, (0, 1))
    codes = codes * torch.arange(6.0, dtype=torch.float64)[:, None]
    for ours, theirs in zip(
        value_and_grad(soft_cross_entropy, scores, codes, pairs, 0.2),
        value_and_grad(soft_cross_entropy_reference, scores, codes, pairs, 0.2),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


def test_one_prototype_costs_nothing():
    assert cross_view(inputs(3, (0, 1), width=1)[0], torch.ones(2, 6, 1), 0.1).abs() < 1e-14


def test_identical_views_of_equal_scores_cost_the_logarithm_of_their_number():
    codes = torch.full((2, 4, 32), 1 / 32)
    torch.testing.assert_close(cross_view(torch.full((2, 4, 32), 0.7), codes, 0.1), torch.tensor(math.log(32)))


def test_scores_of_any_range_are_safe():
    """Values that are exact in float32: the loss is a difference of scores."""
    scores = torch.tensor([[[1e4, -1e4, 0.0]], [[-1e4, 1e4, 0.0]]])
    codes = torch.tensor([[[0.0, 1.0, 0.0]], [[0.0, 1.0, 0.0]]])
    loss, grad = value_and_grad(cross_view, scores, codes, 0.5)
    assert loss == 2e4  # 4e4 for the first view, nothing for the second
    assert grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precisions_are_summed_in_float32(dtype):
    """The same numbers in float32 give the same loss; the gradient is rounded to the scores' type, once."""
    scores, codes = (x.to(dtype) for x in inputs(4, (0, 1), width=501))
    loss, grad = value_and_grad(cross_view, scores, codes, 0.1)
    exact, expected = value_and_grad(cross_view, scores.float(), codes.float(), 0.1)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, exact)
    assert torch.equal(grad, expected.to(dtype))


def test_codes_get_no_gradient():
    scores, codes = inputs(3, (0, 1))
    codes.requires_grad_()
    assert not cross_view(scores, codes, 0.1).requires_grad


def test_gradcheck():
    scores, codes = inputs(3, (0, 1), 2, 4)
    assert torch.autograd.gradcheck(lambda s: cross_view(s, codes, 0.4), scores.requires_grad_())


def test_torch_func_and_vmap_take_it():
    scores, codes = inputs(3, (0, 1))
    many = torch.stack((scores, -scores, 2 * scores), 1)  # [V, 3, B, K]

    def loss(scores, codes):
        return cross_view(scores, codes, 0.3)

    losses = torch.vmap(loss, (1, None))(many, codes)
    grads = torch.vmap(torch.func.grad(loss), (1, None))(many, codes)
    per_codes = torch.vmap(loss, (None, 0))(scores, torch.stack((codes, codes.flip(0))))
    for i in range(3):
        expected, grad = value_and_grad(papers, many[:, i], codes, 0.3, (0, 1))
        torch.testing.assert_close(losses[i], expected)
        torch.testing.assert_close(grads[i], grad / normal(key(8), (), torch.float64))
    torch.testing.assert_close(per_codes[1], loss(scores, codes.flip(0)))


def test_it_compiles_into_one_graph():
    scores, codes = inputs(3, (0, 1))
    compiled = torch.compile(lambda s: cross_view(s, codes, 0.3), fullgraph=True, backend="aot_eager")
    for a, b in zip(value_and_grad(compiled, scores), value_and_grad(papers, scores, codes, 0.3, (0, 1)), strict=True):
        torch.testing.assert_close(a, b)


def test_it_can_be_differentiated_twice():
    scores, codes = inputs(3, (0, 1), 2, 4)
    assert torch.autograd.gradgradcheck(lambda s: cross_view(s, codes, 0.4), scores.requires_grad_())


def test_it_keeps_nothing_of_the_scores_size():
    scores, codes = inputs(8, (0, 1), 16, 300)
    scores.requires_grad_()
    assert kept_bytes(lambda: cross_view(scores, codes, 0.1), besides=[scores, codes]) < scores[0, 0].nbytes * 8


@pytest.mark.parametrize("views", [(0,), (0, 0), (0, 3), (-1, 1)])
def test_codes_of_views_that_are_none_are_an_error(views):
    scores, codes = inputs(3, (0, 1))
    with pytest.raises(ValueError, match=r"views \[.*\] of 2 codes are no 2 of the scores' 3 views"):
        cross_view(scores, codes, 0.1, views)


def test_a_single_view_is_an_error():
    with pytest.raises(ValueError, match=r"1 view has no other .* 2 or more crops"):
        others(1, (0,))
