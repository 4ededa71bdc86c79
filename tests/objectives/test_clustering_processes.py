"""Two processes equal one for SwAV and DINO, even codes and KoLeo: real gloo processes, started once."""

import pytest
import torch

from blocks import tree
from tests.objectives import clustering_cases as cases
from tests.objectives import clustering_processes as processes
from tests.two_processes import in_two


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """[results of process 0, of process 1]."""
    return in_two(processes.work, tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize("name", cases.CASES)
def test_two_processes_find_the_losses_gradients_and_memory_of_one(two, name):
    """Three steps in float64: queue, centre, teacher and batch norm's moments are in the memory."""
    one = tree.flatten(cases.run(name, processes.part))
    for found in two:
        assert found[name].keys() == one.keys()
        for leaf, expected in one.items():
            torch.testing.assert_close(
                found[name][leaf], expected, atol=1e-10, rtol=1e-10, msg=lambda s, n=leaf: f"{n}: {s}"
            )


@pytest.mark.parametrize("name", cases.CASES)
def test_both_processes_hold_the_same_bits_of_memory_and_params(two, name):
    for leaf, value in two[0][name].items():
        if leaf.startswith(("memory", "params")):
            assert torch.equal(value, two[1][name][leaf]), leaf


def test_codes_are_even_over_processes_with_different_shares(two):
    whole = processes.uneven_codes(slice(0, 9))
    found = torch.cat([results["codes"][""] for results in two], 1)
    torch.testing.assert_close(found, whole, rtol=1e-10, atol=1e-14)


def test_a_process_that_counts_no_row_has_no_say_in_the_codes(two):
    found = torch.cat([results["one-sided codes"][""] for results in two])
    torch.testing.assert_close(found, processes.one_sided_codes(slice(0, 4)), rtol=1e-10, atol=1e-14)


def test_one_image_in_each_process_is_the_other_s_neighbour(two):
    found = sum(results["koleo"][""] for results in two) / 2
    torch.testing.assert_close(found, processes.pair_apart(slice(0, 2)), rtol=1e-12, atol=1e-14)
