"""The moving average of leaves in one kernel, against its formula in float64 and PyTorch's lerp."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")

from blocks.ops.kernels import moving_average as kernel
from blocks.ops.moving_average import moving_average_
from blocks.random import key, normal, split

SIZES = ((3, 7), (), (16,), (41,), (0,), (1,))  # several chunks, a part of a block, none


@pytest.fixture(autouse=True, scope="module")
def _narrow():
    """Leaves of a few numbers are several blocks and chunks."""
    before = kernel.BLOCK, kernel.CHUNK
    kernel.BLOCK, kernel.CHUNK = 8, 16
    yield
    kernel.BLOCK, kernel.CHUNK = before


def column(seed, device, dtype=torch.float32, offset=0):
    """Leaves; an offset of 1 makes addresses that are no multiples of 16."""
    keys = split(key(seed), len(SIZES))
    numbers = [normal(k, s, torch.float32).to(device, dtype) for k, s in zip(keys, SIZES, strict=True)]
    return [torch.cat((x.new_zeros(offset), x.flatten()))[offset:].view(x.shape) for x in numbers]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    keep=st.sampled_from([0.0, 0.9, 0.9999, 1.0]),
    scheduled=st.booleans(),
    skip=st.sampled_from([None, False, True]),
    offset=st.sampled_from([0, 1]),
)
def test_it_is_the_formula_in_float64(device, keep, scheduled, skip, offset):
    old, new = column(0, device, offset=offset), column(1, device, offset=offset)
    exact, wide = column(0, device, torch.float64), column(1, device, torch.float64)
    how = torch.tensor(keep, dtype=torch.float64, device=device) if scheduled else keep
    told = None if skip is None else torch.tensor(skip, device=device)
    moving_average_(old, new, how, told, impl="triton")
    moving_average_(exact, wide, how, told, impl="plain")
    for ours, theirs in zip(old, exact, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-6, atol=1e-7)


def test_a_skipped_move_changes_no_bit_whatever_it_follows(device):
    old, new = column(0, device), column(1, device)
    new[0].fill_(torch.nan)
    moving_average_(old, new, 0.5, torch.tensor(True, device=device), impl="triton")
    assert all(map(torch.equal, old, column(0, device)))
    moving_average_(old, new, 0.5, torch.tensor(False, device=device), impl="triton")
    assert old[0].isnan().all()


def test_both_ends_are_exact(device):
    start, end = (torch.tensor([x], device=device) for x in (1e8, 1e-3))
    for keep, wanted in ((0.0, end), (1.0, start)):
        old = [start.clone()]
        moving_average_(old, [end], keep, impl="triton")
        assert torch.equal(old[0], wanted)


@pytest.mark.parametrize("keep", [0.9, torch.tensor(0.9, dtype=torch.float64)])
def test_it_is_what_pytorch_makes_of_it(keep, device):
    keep = keep.to(device) if isinstance(keep, torch.Tensor) else keep
    found = {impl: column(0, device) for impl in ("torch", "triton", "plain")}
    for impl, old in found.items():
        moving_average_(old, column(1, device), keep, torch.tensor(False, device=device), impl=impl)
    for impl in ("triton", "plain"):
        for ours, theirs in zip(found[impl], found["torch"], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_what_the_kernel_cannot_take_is_moved_by_pytorch_or_is_an_error(device):
    old, new = ([torch.ones(2, 3, dtype=torch.float64, device=device) * n] for n in (1, 2))
    moving_average_(old, new, 0.5)
    assert (old[0] == 1.5).all()
    with pytest.raises(ValueError, match="not all leaves are float32"):
        moving_average_(old, new, 0.5, impl="triton")
    strided = [torch.zeros(4, 2, device=device).T]
    with pytest.raises(ValueError, match="contiguous"):
        moving_average_(strided, [torch.ones(2, 4, device=device)], 0.5, impl="triton")
    moving_average_([], [], 0.5, impl="triton")
    with pytest.raises(ValueError, match="differ in shape"):
        moving_average_([torch.zeros(4, device=device)], [torch.zeros(1, device=device)], 0.5, impl="triton")


def test_it_compiles_into_one_graph(device):
    def move(old, new, keep, skip):
        moving_average_(old, new, keep, skip, impl="triton")

    both = [column(0, device) for _ in range(2)]
    keep, skip = torch.tensor(0.9, device=device), torch.tensor(False, device=device)
    torch.compile(move, fullgraph=True, backend="aot_eager")(both[0], column(1, device), keep, skip)
    move(both[1], column(1, device), keep, skip)
    assert all(map(torch.equal, *both))
