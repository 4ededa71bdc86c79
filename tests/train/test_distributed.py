"""N processes equal one: real gloo processes, started once for all tests of this file."""

import socket

import pytest
import torch
from torch import multiprocessing

from blocks import tree
from blocks.train.distributed import Processes, connect
from tests.train import two_processes

SUMMATION = {"atol": 2e-6, "rtol": 2e-5}  # another order of summation in float32, then Adam


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """[results of process 0, of process 1]."""
    out = tmp_path_factory.mktemp("two")
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(two_processes.work, (2, port, str(out)), nprocs=2)
    return [torch.load(out / f"{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def one():
    """The results of a single process with the whole batches."""
    results = two_processes.cases(lambda batch: batch)
    return {name: tree.flatten(value) for name, value in results.items()}


@pytest.mark.parametrize("name", [name for name in two_processes.CASES if "float16" not in name])
def test_two_processes_train_as_one_with_dropout_and_drop_path(one, two, name):
    """State and metrics of three steps in float64; "all" is accumulation, clipping and a moving average."""
    assert two[0][name].keys() == one[name].keys()
    for leaf, expected in one[name].items():
        found = two[0][name][leaf]
        torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-8, msg=lambda s, n=leaf: f"{n}: {s}")


@pytest.mark.parametrize(("name", "rounding"), [("net bfloat16", 0.004), ("net float16", 0.0005)])
def test_two_processes_train_nearly_as_one_in_half_precision(one, two, name, rounding):
    """Gradients of half a batch and of a whole one round differently, by 0.4 % and by 0.05 % a rounding."""
    for leaf, expected in one[name].items():
        if leaf.startswith("log"):
            torch.testing.assert_close(two[0][name][leaf], expected, atol=0, rtol=2.5 * rounding)


def test_both_processes_hold_the_same_bits(two):
    """Params, moments, averages and metrics; not memories, which are the objective's affair."""
    for name in two[0]:
        if "broken" in name:
            continue  # the memory saw each process's own images
        for leaf, value in two[0][name].items():
            assert torch.equal(value, two[1][name][leaf]), f"{name}: {leaf}"


def test_without_an_index_the_second_process_has_the_second_half(two):
    whole = tree.flatten(two_processes.bare_index(dict))
    for leaf, expected in whole.items():
        torch.testing.assert_close(two[0]["bare index"][leaf], expected, **SUMMATION)


def test_a_broken_batch_on_one_process_skips_the_update_on_all(two):
    for results in two:
        before, after = results["before broken"], results["after broken"]
        assert after["skipped"] == 1
        assert after["step"] == 1
        kept = [n for n in before if n not in ("skipped", "step")]
        assert all(torch.equal(before[n], after[n]) for n in kept)


def test_an_overflow_on_one_process_lowers_the_loss_scale_on_all(two):
    for results in two:
        before, after = results["before overflow"], results["after overflow"]
        assert after["metrics.loss"].isfinite()
        assert not after["metrics.grad_norm"].isfinite()
        assert after["state.skipped"] == 0
        assert after["state.loss_scale.scale"] == before["loss_scale.scale"] / 2
        assert all(torch.equal(before[n], after[f"state.{n}"]) for n in before if n.startswith(("params", "optimizer")))


def test_sums_are_right_where_a_leaf_is_used_on_one_process_only(two):
    for results in two:
        for name, value in results["small buckets"].items():
            times = 1 if name == "4" else 3
            assert torch.equal(value, torch.full((3,), 2.0 * (int(name) + 1) * times))


def test_both_processes_find_the_norm_of_the_sums_and_the_same_bits(two):
    expected = 11 * (3 * sum(i * i for i in range(1, 6))) ** 0.5
    first, second = (results["norm"][""] for results in two)
    assert abs(first / expected - 1) < 1e-14
    assert torch.equal(first, second)


def test_every_process_sees_a_nan_in_any_bucket(two):
    assert all(norm.isnan() for results in two for norm in results["broken norms"].values())


def test_a_dict_of_tensors_is_summed_in_place_of_each_name(two):
    for results in two:
        assert results["sum"]["a"].tolist() == [1.0, 2.0]
        assert results["sum"]["b"] == 10.0


def test_the_group_is_gone_after_the_block(two):
    assert not any(results["connected after"][""] for results in two)


def test_without_torchrun_there_is_one_process_and_no_group(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with connect("cpu") as processes:
        assert processes == Processes(0, 1, 0, "cpu")
        assert processes.is_main
        assert not torch.distributed.is_initialized()
        processes.barrier()
        assert processes.all_reduce_sum({"a": torch.ones(2)})["a"].tolist() == [1.0, 1.0]


def test_torchrun_with_one_process_needs_no_group(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    with connect("cpu"):
        assert not torch.distributed.is_initialized()


def test_more_processes_than_gpus_is_an_error_that_says_how_many(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"process 3 .* there are 2; use torchrun --nproc-per-node 2"), connect("cuda"):
        pass


def test_a_broken_environment_is_an_error_that_names_the_variable(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(ValueError, match="WORLD_SIZE is 'two'"), connect("cpu"):
        pass


@pytest.mark.parametrize(
    ("device", "wish", "home"),
    [
        ("cpu", "auto", "workers"),
        ("cuda:0", "auto", "device"),
        ("cpu", "device", "device"),
        ("cuda", "workers", "workers"),
    ],
)
def test_pictures_are_augmented_as_wished_or_on_a_gpu_if_there_is_one(device, wish, home):
    assert Processes(device=device).home(wish) == home


def test_workers_below_zero_are_refused():
    with pytest.raises(ValueError, match="-1 data workers are none; use 0"), connect(data_workers=-1):
        pass
