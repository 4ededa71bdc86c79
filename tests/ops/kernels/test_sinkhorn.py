"""Sinkhorn's kernels, on chip and in sweeps, against the same in logarithms in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")

from blocks.ops.kernels import sinkhorn as kernel
from blocks.ops.sinkhorn import sinkhorn, sinkhorn_reference
from blocks.random import key, normal

WAYS = {"on chip": {}, "sweeps": {"ON_CHIP": 0, "TILE": 8, "PROGRAMS": 2}}  # sweeps in tiles of a few numbers


def solved(way, *given_, **how):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in WAYS[way].items():
            patch.setattr(kernel, name, value)
        patch.setattr(kernel, "WIDEST", 4)
        return sinkhorn(*given_, **how, impl="triton")


def scores_of(shape, dtype=torch.float32, device="cpu", strided=False, scale=1.0):
    wide = (normal(key(len(shape)), (*shape[:-1], 2 * shape[-1]), torch.float32) * scale).to(device, dtype)
    return wide[..., ::2] if strided else wide[..., : shape[-1]].contiguous()


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    way=st.sampled_from(list(WAYS)),
    size=st.sampled_from([(1, 1), (5, 1), (1, 6), (6, 4), (3, 9), (9, 5)]),
    leading=st.sampled_from([(), (2,)]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    iterations=st.integers(1, 4),
    some=st.booleans(),
    bounded=st.booleans(),
    strided=st.booleans(),
)
def test_codes_are_those_of_logarithms_in_float64(
    device, way, size, leading, dtype, iterations, some, bounded, strided
):
    scores = scores_of((*leading, *size), dtype, device, strided).tanh()
    counted = torch.arange(size[0], device=device) % 3 != 1 if some else None
    codes = solved(way, scores, 0.3, iterations, counted, 1.0 if bounded else None)
    assert codes.dtype == torch.float32
    expected = sinkhorn_reference(scores.double(), 0.3, iterations, counted)
    torch.testing.assert_close(codes.double(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("way", WAYS)
def test_scores_of_any_range_make_shares(way, device):
    """A sample far below, and a prototype far from all, have theirs too."""
    scores = scores_of((6, 5), device=device, scale=1e4)
    scores[0] -= 5e4
    scores[:, -1] -= 5e4
    codes = solved(way, scores)
    torch.testing.assert_close(codes.sum(1), torch.ones(6, device=device))
    torch.testing.assert_close(codes.double(), sinkhorn(scores.double(), impl="torch"), rtol=1e-4, atol=1e-6)


def test_a_bound_that_the_exponential_cannot_bear_is_not_relied_on(device):
    scores = scores_of((6, 5), device=device).tanh()
    expected = sinkhorn_reference(scores.double(), 0.01)
    torch.testing.assert_close(solved("on chip", scores, 0.01, bound=1.0).double(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_an_epsilon_of_a_schedule_is_a_tensor(way, device):
    scores = scores_of((9, 5), torch.bfloat16, device)
    for dtype in (torch.float32, torch.float64):
        found = solved(way, scores, torch.tensor(0.3, dtype=dtype, device=device))
        torch.testing.assert_close(found, solved(way, scores, 0.3), rtol=1e-6, atol=0)


@pytest.mark.parametrize("way", WAYS)
def test_it_is_the_same_twice_and_has_no_gradient(way, device):
    scores = scores_of((7, 6), device=device).requires_grad_()
    codes = solved(way, scores)
    assert not codes.requires_grad
    assert torch.equal(codes, solved(way, scores))


@pytest.mark.parametrize(("split", "bound"), [(0, None), (3, None), (3, 1.0)])
def test_processes_that_add_their_sums_find_their_part_of_the_whole(split, bound, device, monkeypatch):
    """Also one without samples. What they exchange is simulated: `total` is tested elsewhere."""
    scores, shared, added = scores_of((1, 5, 3), device=device).tanh(), [], []
    counted = torch.arange(5, device=device) > 1

    def remember(x):
        shared.append(x)
        return x

    for name in ("total", "maximum"):
        monkeypatch.setattr(kernel, name, remember)
    monkeypatch.setattr(kernel, "world", lambda: (0, 2))
    whole = sinkhorn(scores, 0.3, 2, counted, bound, impl="triton")
    for rows in (slice(0, split), slice(split, 5)):
        mine = iter(shared)

        def exchange(x, mine=mine):
            added.append(x)
            return next(mine)

        for name in ("total", "maximum"):
            monkeypatch.setattr(kernel, name, exchange)
        part = sinkhorn(scores[:, rows], 0.3, 2, counted[rows], bound, impl="triton")
        torch.testing.assert_close(part, whole[:, rows])
    for both, one, other in zip(shared[-2:], added[-2 - len(shared) : -len(shared)], added[-2:], strict=True):
        torch.testing.assert_close(one + other, both)
    torch.testing.assert_close(whole.double(), sinkhorn_reference(scores.double(), 0.3, 2, counted))


def test_no_sample_has_no_code(device):
    assert sinkhorn(torch.zeros(2, 0, 3, device=device), impl="triton").shape == (2, 0, 3)


def test_the_definition_is_sound_and_compiles_into_one_graph(device):
    scores = scores_of((2, 4, 3), device=device)
    checks = "test_schema", "test_faketensor"
    torch.library.opcheck(
        torch.ops.blocks.sinkhorn, (scores, torch.tensor(20.0, device=device), 2, None, None), test_utils=checks
    )
    compiled = torch.compile(lambda s: sinkhorn(s, impl="triton"), fullgraph=True, backend="eager")
    assert torch.equal(compiled(scores), sinkhorn(scores, impl="triton"))
