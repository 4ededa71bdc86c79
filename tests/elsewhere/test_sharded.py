"""DDP and FSDP2 around a module of ours: two processes equal one. Real gloo processes, started once."""

import pytest
import torch

from blocks import tree
from tests.elsewhere import sharded_processes as processes
from tests.interop import modules
from tests.two_processes import in_two

CLOSE = {"atol": 1e-6, "rtol": 1e-5}  # float32 sums in another order


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return in_two(processes.work, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def one():
    return processes.step(processes.module(), processes.images())


@pytest.mark.parametrize("name", processes.WRAPPED)
def test_losses_and_gradients_are_one_process_s(one, two, name):
    halves = [results[name] for results in two]
    torch.testing.assert_close((halves[0]["loss"] + halves[1]["loss"]) / 2, one["loss"], **CLOSE)
    torch.testing.assert_close(torch.cat([half["after"] for half in halves]), one["after"], **CLOSE)
    assert max(grad.abs().max() for grad in one["grads"].values()) > 1e-3
    for leaf, expected in one["grads"].items():
        for half in halves:
            torch.testing.assert_close(half[f"grads.{leaf}"], expected, **CLOSE, msg=lambda s, n=leaf: f"{n}: {s}")


def test_features_too_and_each_process_holds_a_part(two):
    tokens = processes.module().forward_features(processes.images())
    count = tree.count(processes.MODEL.init(processes.key(0)))
    for results in two:
        torch.testing.assert_close(results["sharded features"]["tokens"], tokens, **CLOSE)
    assert sum(int(results["sharded features"]["here"]) for results in two) == count
    assert max(int(results["sharded features"]["here"]) for results in two) < 0.6 * count


def test_a_module_s_batch_norms_are_those_of_one_process(two):
    """Features are normalised by the whole batch's moments, and statistics are the whole batch's."""
    halves, one = [results["trunk"] for results in two], tree.flatten(processes.trunk(modules.images()))
    torch.testing.assert_close(torch.cat([half["features"] for half in halves]), one["features"], **CLOSE)
    for leaf, expected in one.items():
        if leaf.startswith("grads."):
            torch.testing.assert_close((halves[0][leaf] + halves[1][leaf]) / 2, expected, **CLOSE)
        elif leaf.startswith("all."):
            torch.testing.assert_close(halves[0][leaf], expected, **CLOSE)
