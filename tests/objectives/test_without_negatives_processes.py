"""Two processes equal one for BYOL, Barlow Twins and VICReg: real gloo processes, started once."""

import pytest
import torch

from blocks import tree
from tests.objectives import without_negatives_processes as processes
from tests.objectives.views import OBJECTIVES
from tests.two_processes import in_two

EVERY = pytest.mark.parametrize("name", OBJECTIVES)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """[(summed, same on all) of process 0, of process 1]."""
    return in_two(processes.work, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def one():
    """The results of a single process with the whole batches."""
    return [{name: tree.flatten(value) for name, value in part.items()} for part in processes.cases(lambda b: b)]


def assert_close(found, expected, leaf):
    """To the last bits of the type: running moments are float32 whatever the params are."""
    tolerance = 1e-6 if expected.dtype == torch.float32 else 1e-10
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance, msg=lambda s: f"{leaf}: {s}")


@EVERY
def test_loss_and_gradient_add_up_to_one_process_s(one, two, name):
    for leaf, expected in one[0][name].items():
        assert_close(two[0][0][name][leaf] + two[1][0][name][leaf], expected, leaf)


@pytest.mark.parametrize("case", [*(f"{name} {how}" for name in OBJECTIVES for how in ("settled", "trained"))])
def test_memory_and_three_steps_are_one_process_s(one, two, case):
    """The second step is skipped: one sample, on one process, is not a number."""
    for results in two:
        assert results[1][case].keys() == one[1][case].keys()
        for leaf, expected in one[1][case].items():
            if not leaf.startswith("log.1."):  # what is not finite is in the skipped step's metrics alone
                assert_close(results[1][case][leaf], expected, leaf)
    if "trained" in case:
        assert [int(one[1][case][f"log.{step}.skipped"]) for step in range(3)] == [0, 1, 0]
        assert one[1][case]["state.memory.step"] == 2


@EVERY
def test_both_processes_hold_the_same_bits(two, name):
    for leaf, value in two[0][1][f"{name} trained"].items():
        other = two[1][1][f"{name} trained"][leaf]
        assert torch.equal(value, other) or (value.isnan() & other.isnan()).all(), leaf


def test_metrics_of_the_settling_are_averaged_over_processes(one, two):
    for name in OBJECTIVES:
        for results in (one, *two):
            assert results[1][f"{name} trained"]["log.0.seen"] == 3.5
