"""N processes find what one does, however the data set is shared out: real gloo processes."""

import pytest
import torch

from tests.probe import shares
from tests.probe.small import HERE
from tests.two_processes import in_two

NAMES = ["online", *(f"{what}, {s}" for what in ("features", "k-NN", "monitor", "probes") for s in shares.SHARES)]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """[results of process 0, of process 1]."""
    return in_two(shares.one_of_two, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def one():
    return shares.cases(HERE)


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_find_what_one_does(one, two, name):
    """Accuracies exactly, the rest in float64 but for the order of summation."""
    for results in two:
        assert results[name].keys() == one[name].keys()
        for leaf, expected in one[name].items():
            exact = "k-NN" in name or "monitor" in name or "top1" in leaf
            tolerance = 0 if exact else 1e-10
            torch.testing.assert_close(results[name][leaf], expected, atol=tolerance, rtol=tolerance)


def test_no_result_is_missing(one, two):
    assert set(NAMES) == one.keys() == two[0].keys()


def test_the_results_could_differ(one):
    """Accuracies are neither 0 nor 1, and probes have learnt."""
    assert len(set(map(float, one["k-NN, even"].values()))) > 1
    assert all(0 < value < 1 for value in one["monitor, even"].values())
    assert one["online"]["probe.weight"].abs().max() > 0.1
    assert one["probes, even"]["accuracy.top1"] > 0.25
