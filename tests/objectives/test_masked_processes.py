"""Two processes equal one for MAE and iBOT: real gloo processes, started once."""

import pytest
import torch

from blocks import tree
from tests.objectives import masked_processes as processes
from tests.objectives.masked import OBJECTIVES
from tests.two_processes import in_two


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """[results of process 0, of process 1]."""
    return in_two(processes.work, tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_loss_gradient_and_settled_memory_are_one_process_s(two, name):
    summed, memory = (tree.flatten(part) for part in processes.once(name, lambda batch: batch))
    for leaf, expected in summed.items():
        found = two[0][name][0][leaf] + two[1][name][0][leaf]
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10, msg=lambda s, n=leaf: f"{n}: {s}")
    for results in two:
        assert results[name][1].keys() == memory.keys()
        for leaf, expected in memory.items():
            found = results[name][1][leaf]
            torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10, msg=lambda s, n=leaf: f"{n}: {s}")


@pytest.mark.parametrize("name", OBJECTIVES)
def test_both_processes_remember_the_same_bits(two, name):
    assert all(torch.equal(value, two[1][name][1][leaf]) for leaf, value in two[0][name][1].items())
