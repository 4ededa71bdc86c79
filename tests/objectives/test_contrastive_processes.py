"""Two processes equal one for MoCo, MoCo v3 and SimCLR: real gloo processes, started once."""

import pytest
import torch

from tests.objectives import contrastive_processes as processes
from tests.objectives.contrastive import OBJECTIVES
from tests.two_processes import in_two

EVERY = pytest.mark.parametrize("name", OBJECTIVES)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """[(summed, same on all) of process 0, of process 1]."""
    return in_two(processes.work, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def one():
    """The results of a single process with the whole batches."""
    return processes.cases(lambda batch: batch)


def assert_close(found, expected, leaf, loose=2e-6):
    """To the last bits of the type: running moments are float32 whatever the params are."""
    tolerance = loose if expected.dtype == torch.float32 else 1e-10
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=10 * tolerance, msg=lambda s: f"{leaf}: {s}")


@EVERY
def test_loss_and_gradient_add_up_to_one_process_s(one, two, name):
    """In float64, with drop path, for two large crops and a small one."""
    for leaf, expected in one[0][name].items():
        assert_close(two[0][0][name][leaf] + two[1][0][name][leaf], expected, leaf)


@EVERY
def test_queue_teacher_and_moments_are_one_process_s(one, two, name):
    for results in two:
        for leaf, expected in one[1][f"{name} settled"].items():
            assert_close(results[1][f"{name} settled"][leaf], expected, leaf)


@EVERY
def test_three_steps_are_one_process_s(one, two, name):
    """In float32; the second is skipped: one sample, on one process, is not a number."""
    case = f"{name} trained"
    assert [int(one[1][case][f"log.{step}.skipped"]) for step in range(3)] == [0, 1, 0]
    assert one[1][case]["state.memory.step"] == 2
    for results in two:
        for leaf, expected in one[1][case].items():
            own = ("feature_std", "positive")  # metrics of a process's own half, averaged
            if expected.isfinite().all() and not leaf.endswith(own):
                assert_close(results[1][case][leaf], expected, leaf, 2e-5)


@EVERY
def test_both_processes_hold_the_same_bits(two, name):
    for leaf, value in two[0][1][f"{name} trained"].items():
        other = two[1][1][f"{name} trained"][leaf]
        assert torch.equal(value, other) or (value.isnan() & other.isnan()).all(), leaf


def test_micro_batches_on_two_processes_fill_the_queue_in_the_order_of_the_batch(one, two):
    for results in two:
        for leaf, expected in one[1]["accumulated"].items():
            assert_close(results[1]["accumulated"][leaf], expected, leaf)
