"""Batch norm against torch's, and one process against two."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from blocks import DinoHead, ProjectionMlp, key, tree
from blocks.collective import average
from blocks.layers.batch_norm import BatchNorm
from tests.two_processes import in_two, share

C = 5


def numbers(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)) * 3 + 7


def affine(dtype=torch.float64):
    return {"weight": numbers(C, seed=1, dtype=dtype), "bias": numbers(C, seed=2, dtype=dtype)}


def gradients(function, x, params, weights):
    """(function(x, params), the gradients of sum(weights * it) to x, weight and bias)."""
    leaves = [t.detach().requires_grad_() for t in (x, *params.values())]
    y = function(leaves[0], dict(zip(params, leaves[1:], strict=True)))
    return y.detach(), *torch.autograd.grad((y * weights).sum(), leaves)


def test_what_it_observes_are_the_batch_s_moments_also_where_params_hold_others():
    x, others = numbers(6, C), {"running_mean": numbers(C, seed=5), "running_var": numbers(C, seed=6).abs()}
    y, moments = BatchNorm(C).observed({**affine(), **others}, x)
    assert torch.equal(y, BatchNorm(C)(affine(), x))
    torch.testing.assert_close(moments, {"running_mean": x.mean(0), "running_var": x.var(0)})
    assert not any(t.requires_grad for t in BatchNorm(C).observed(affine(), x.requires_grad_())[1].values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("norm", [BatchNorm(C), BatchNorm(C, affine=False), BatchNorm(C, group_size=3)])
def test_half_precision_stays_with_moments_in_float32(dtype, norm):
    x, params = numbers(6, C).to(dtype), tree.cast(affine() if norm.affine else {}, dtype)
    y, moments = norm.observed(params, x)
    expected = norm(tree.cast(params, torch.float64), x.double())
    torch.testing.assert_close(y, expected, check_dtype=False, rtol=torch.finfo(dtype).eps, atol=4e-3)
    assert {y.dtype, *(m.dtype for m in moments.values())} == {dtype, torch.float32}
    assert norm({**params, **moments}, x).dtype == dtype


def test_tokens_share_their_channel_s_moments():
    x = numbers(3, 4, C)
    expected = F.batch_norm(x.transpose(1, 2), None, None, *affine().values(), training=True).transpose(1, 2)
    torch.testing.assert_close(BatchNorm(C)(affine(), x), expected)


@pytest.mark.parametrize("shape", [(6, C), (6, 4, C)])
def test_a_group_is_normalised_as_if_it_were_alone(shape):
    """Like shuffling batch norm's processes; values, gradients, and the mean of the groups' moments."""
    x, weights, grouped = numbers(*shape), numbers(*shape, seed=3), BatchNorm(C, group_size=2)
    parts = [gradients(lambda x, p: BatchNorm(C)(p, x), *pair) for pair in _groups(x, weights)]
    y, for_x, *for_params = gradients(lambda x, p: grouped(p, x), x, affine(), weights)
    torch.testing.assert_close(y, torch.cat([part[0] for part in parts]), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(for_x, torch.cat([part[1] for part in parts]), rtol=1e-11, atol=1e-12)
    for i, found in enumerate(for_params):
        torch.testing.assert_close(found, sum(part[2 + i] for part in parts), rtol=1e-11, atol=1e-11)
    moments = [BatchNorm(C).observed(affine(), part)[1] for part in x.split(2)]
    for name, found in grouped.observed(affine(), x)[1].items():
        torch.testing.assert_close(found, torch.stack([m[name] for m in moments]).mean(0))


def _groups(x, weights):
    return [(part, affine(), w) for part, w in zip(x.split(2), weights.split(2), strict=True)]


def test_with_running_moments_a_sample_does_not_depend_on_its_batch():
    """Against torch.nn.BatchNorm1d: trained with momentum 1, then evaluated; also what it calls running_var."""
    module, x, batch = nn.BatchNorm1d(C, momentum=1.0), numbers(6, C), numbers(8, C, seed=4)
    module.double()(batch)
    params = {"weight": torch.ones(C), "bias": torch.zeros(C)} | BatchNorm(C).observed(affine(), batch)[1]
    expected = module.eval()(x)
    torch.testing.assert_close(BatchNorm(C)(params, x), expected)
    torch.testing.assert_close(BatchNorm(C, group_size=4)(params, x[:1]), expected[:1])
    del params["weight"], params["bias"]
    torch.testing.assert_close(BatchNorm(C, affine=False)(params, x[None])[0], expected)


def test_running_moments_begin_at_zero_and_one():
    x, norm = numbers(3, C, dtype=torch.float32), BatchNorm(C, eps=1e-30)
    assert torch.equal(norm({**norm.init(key(0)), **norm.running()}, x), x)
    assert norm.running().keys() == norm.observed(norm.init(key(0)), x)[1].keys()


def test_one_sample_a_group_of_one_and_groups_that_do_not_fit_are_errors():
    with pytest.raises(ValueError, match="one sample"):
        BatchNorm(C)(affine(), numbers(1, C))
    with pytest.raises(ValueError, match="group_size 1"):
        BatchNorm(C, group_size=1)
    with pytest.raises(ValueError, match="6 samples are no multiple of group_size 4"):
        BatchNorm(C, group_size=4)(affine(), numbers(6, C))


@pytest.mark.parametrize("shape", [(4, 2 * C), (4, C, 2), (2 * C,)])
def test_channels_that_are_not_its_own_are_an_error(shape):
    """Also where they would fit after a reshape, channels before pixels for one."""
    norm, x = BatchNorm(C), numbers(*shape)
    for use in (norm, norm.observed, lambda params, x: norm({**params, **norm.running()}, x)):
        with pytest.raises(ValueError, match=re.escape(f"x {list(shape)} is not [b, ..., 5]")):
            use(affine(), x)


def test_what_it_observes_maps_over_params_and_inputs():
    """As in a sweep: torch.func.vmap is a loop, wherever the mapped axis lies."""
    norm, params, x = BatchNorm(C), tree.map(lambda t: torch.stack((t, 2 * t)), affine()), numbers(6, 2, C)
    mapped, moments = torch.func.vmap(norm.observed, (0, 1))(params, x)
    for i in range(2):
        y, expected = norm.observed(tree.map(lambda t, i=i: t[i], params), x[:, i])
        torch.testing.assert_close(mapped[i], y)
        torch.testing.assert_close({name: m[i] for name, m in moments.items()}, expected)


HEADS = {
    "tokens": BatchNorm(C),
    "whole batch": BatchNorm(C),
    "groups": BatchNorm(C, group_size=2),
    "head": ProjectionMlp(C, 7, C, 3, "batch", "batch without affine"),
    "DINO's head": DinoHead(C, C, 7, 6, norm="batch"),
    "head in groups": ProjectionMlp(C, 7, C, 3, "batch", "batch", group_size=4),
}


def found(rank=None):
    """Outputs, moments and gradients of the whole batch, or of a process's part in the loss it shares."""
    results = {}
    for name, head in HEADS.items():
        shape = (8, 3, C) if name == "tokens" else (8, C)
        x, weights = (t if rank is None else share(t, rank) for t in (numbers(*shape), numbers(*shape, seed=3)))
        params = tree.map(lambda t: t.double().requires_grad_(), head.init(key(5)))
        x.requires_grad_()
        y, moments = head.observed(params, x)
        for_x, *for_params = torch.autograd.grad((y * weights).sum(), (x, *tree.leaves(params)))
        summed = [g if rank is None else 2 * average(g) for g in for_params]
        results[name] = {"y": y.detach(), "x": for_x, "params": summed, "moments": moments}
    return results


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return in_two(found, tmp_path_factory.mktemp("batch_norm"))


@pytest.mark.parametrize("name", HEADS)
def test_two_processes_normalise_as_one(two, name):
    """Outputs, the gradients of inputs and (summed) of params, and the moments, which all processes hold alike."""
    expected = found()[name]
    for leaf in ("y", "x"):
        whole = torch.cat([results[name][leaf] for results in two])
        torch.testing.assert_close(whole, expected[leaf], rtol=1e-11, atol=1e-12)
    for results in two:
        for leaf in ("params", "moments"):
            torch.testing.assert_close(results[name][leaf], expected[leaf], rtol=1e-10, atol=1e-11)
    first, second = (results[name]["moments"] for results in two)
    assert all(torch.equal(first[leaf], second[leaf]) for leaf in first)
