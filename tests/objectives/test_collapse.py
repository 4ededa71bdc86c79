"""The metrics that show a collapse."""

import math

import pytest
import torch

from blocks.objectives.collapse import code_entropy, feature_std


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_features_that_point_everywhere_have_spread_1_and_equal_ones_0():
    assert feature_std(random(4000, 64)) == pytest.approx(1, abs=0.01)
    assert feature_std(random(2, 2000, 64)) == pytest.approx(1, abs=0.01)
    assert feature_std(random(64).expand(100, 64)) == pytest.approx(0, abs=1e-6)


def test_the_spread_does_not_depend_on_lengths_and_is_that_of_each_dimension():
    x = random(50, 8).double()
    rows = x / x.norm(dim=1, keepdim=True)
    expected = sum(column.std(correction=0) for column in rows.T) / 8 * math.sqrt(8)
    assert feature_std(x) == pytest.approx(float(expected))
    assert feature_std(x * random(50, 1).abs()) == pytest.approx(float(expected))


def test_codes_that_share_all_places_have_entropy_1_and_one_place_for_all_0():
    assert code_entropy(torch.eye(8)) == pytest.approx(1)
    assert code_entropy(torch.full((2, 3, 8), 1 / 8)) == pytest.approx(1)
    assert code_entropy(torch.eye(8)[:1].expand(5, 8)) == 0
    assert code_entropy(torch.eye(8)[:4]) == pytest.approx(math.log(4) / math.log(8))
    assert code_entropy(torch.ones(5, 1)) == 1


def test_half_precision_is_enough_and_no_graph_is_kept():
    x = random(500, 64).requires_grad_()
    for found, exact in ((feature_std(x.bfloat16()), feature_std(x)), (code_entropy(x.softmax(1)), 1)):
        assert found.dtype == torch.float32
        assert not found.requires_grad
        assert found == pytest.approx(float(exact), abs=0.02)
