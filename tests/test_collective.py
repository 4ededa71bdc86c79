"""What processes know together, and its gradient: two of them against the same formula in one."""

import pytest
import torch

from blocks.collective import average, gather, maximum, total, world
from tests.two_processes import in_two, share

WHOLE = torch.randn(4, 6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
# what the loss of each process makes of its result: they differ, so that a gradient must bring both together
WEIGHTS = torch.randn(2, 4, 6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
GATHERS = {f"gather along {dim}": dim for dim in (0, 1, 2, -1, -2)}
SUMS = {"total": total, "average": average}
EXPECTED_SUMS = {"total": lambda a, b: a + b, "average": lambda a, b: (a + b) / 2}


def value_and_gradient(function, x, weights):
    """(function(x), the gradient of this process's loss, the sum of weights * function(x))."""
    x = x.detach().requires_grad_()
    y = function(x)
    assert torch.equal(x, x.detach().clone())
    return y.detach(), torch.autograd.grad((y * weights).sum(), x)[0]


def found(rank):
    """All results of one process, by name."""
    results = {"world": torch.tensor(world())}
    for name, dim in GATHERS.items():
        results[name] = value_and_gradient(lambda x, d=dim: gather(x, d), share(WHOLE, rank, dim), WEIGHTS[rank])
    crosswise = share(WHOLE, rank).transpose(0, 2)
    results["not contiguous"] = value_and_gradient(gather, crosswise, torch.ones((), dtype=torch.float64))
    for name, function in SUMS.items():
        results[name] = value_and_gradient(function, share(WHOLE, rank, 1), share(WEIGHTS[rank], 0, 1))
        flipped = share(WHOLE, rank, 1).flip(2).transpose(0, 1)
        results[f"{name} not contiguous"] = function(flipped)
    mine = share(WHOLE, rank).clone().requires_grad_()
    results["maximum"] = maximum(mine)
    results["maximum's input"] = mine.detach()
    results["integers"] = gather(torch.tensor([rank, 7])), total(torch.tensor([rank, 7])), maximum(torch.tensor([rank]))
    results["bfloat16"] = gather(share(WHOLE, rank).bfloat16()), total(share(WHOLE, rank).bfloat16())
    return results


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return in_two(found, tmp_path_factory.mktemp("collective"))


def test_two_processes_count_themselves(two):
    assert [results["world"].tolist() for results in two] == [[0, 2], [1, 2]]


@pytest.mark.parametrize("name", GATHERS)
def test_a_gather_gives_every_process_the_whole_and_what_all_say_about_its_part(two, name):
    """The loss is the sum of both processes' losses, in one process on the whole tensor."""
    whole = WHOLE.clone().requires_grad_()
    (expected,) = torch.autograd.grad((whole * WEIGHTS).sum(), whole)
    for rank, results in enumerate(two):
        value, gradient = results[name]
        assert torch.equal(value, WHOLE)
        torch.testing.assert_close(gradient, share(expected, rank, GATHERS[name]), rtol=0, atol=1e-15)


def test_a_gather_of_what_lies_crosswise_in_memory_is_the_same(two):
    parts = [share(WHOLE, rank).transpose(0, 2) for rank in range(2)]
    for results in two:
        assert torch.equal(results["not contiguous"][0], torch.cat(parts))
        assert torch.equal(results["not contiguous"][1], torch.full_like(parts[0], 2))


@pytest.mark.parametrize("name", SUMS)
def test_a_sum_s_gradient_is_the_same_sum(two, name):
    parts = [share(WHOLE, rank, 1).clone().requires_grad_() for rank in range(2)]
    expected = EXPECTED_SUMS[name](*parts)
    gradients = torch.autograd.grad(sum((expected * share(WEIGHTS[rank], 0, 1)).sum() for rank in range(2)), parts)
    for rank, results in enumerate(two):
        torch.testing.assert_close(results[name][0], expected, rtol=0, atol=1e-15)
        torch.testing.assert_close(results[name][1], gradients[rank], rtol=0, atol=1e-15)
        crosswise = expected.detach().flip(2).transpose(0, 1)
        torch.testing.assert_close(results[f"{name} not contiguous"], crosswise, rtol=0, atol=1e-15)


def test_the_maximum_is_everyone_s_has_no_gradient_and_leaves_its_input_alone(two):
    expected = torch.maximum(share(WHOLE, 0), share(WHOLE, 1))
    for rank, results in enumerate(two):
        assert torch.equal(results["maximum"], expected)
        assert not results["maximum"].requires_grad
        assert torch.equal(results["maximum's input"], share(WHOLE, rank))


def test_integers_stay_integers(two):
    for results in two:
        assert [t.tolist() for t in results["integers"]] == [[0, 7, 1, 7], [1, 14], [1]]
        assert all(t.dtype == torch.int64 for t in results["integers"])


def test_bfloat16_stays_bfloat16(two):
    halves = WHOLE.bfloat16()
    for results in two:
        assert torch.equal(results["bfloat16"][0], halves)
        assert torch.equal(results["bfloat16"][1], share(halves, 0) + share(halves, 1))


def test_a_process_that_is_alone_has_the_whole():
    x = WHOLE.clone().requires_grad_()
    assert world() == (0, 1)
    assert all(torch.equal(function(x), x) for function in (gather, total, average, maximum))
    (gradient,) = torch.autograd.grad((average(total(gather(x, 1))) * WEIGHTS[0]).sum(), x)
    assert torch.equal(gradient, WEIGHTS[0])
    assert not maximum(x).requires_grad
