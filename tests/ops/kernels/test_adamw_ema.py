"""AdamW, clipping, average and copy in one kernel, against the paper's formula in float64 and torch's own kernels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")

from blocks.ops.adamw_ema import Leaves, Rates, adamw_ema_, adamw_ema_plain_, unsupported
from blocks.ops.kernels import adamw_ema as kernel
from blocks.optim.adamw import adamw
from blocks.random import key, normal, split
from blocks.tree import clone, leaves

SIZES = ((3, 7), (), (16,), (41,), (0,), (1,))  # several chunks, a part of a block, none


@pytest.fixture(autouse=True, scope="module")
def _narrow():
    """Leaves of a few numbers are several blocks and chunks."""
    before = kernel.BLOCK, kernel.CHUNK
    kernel.BLOCK, kernel.CHUNK = 8, 16
    yield
    kernel.BLOCK, kernel.CHUNK = before


def leaves_of(device, wide, grad=torch.float32, averages=True, copy=torch.bfloat16, wakes=None, offset=0):
    """The same numbers in float32 and float64; an offset of 1 makes addresses that are no multiples of 16."""

    def column(seed):
        numbers = [
            normal(k, s, torch.float32).to(device) for k, s in zip(split(key(seed), len(SIZES)), SIZES, strict=True)
        ]
        return [torch.cat((x.new_zeros(offset), x.flatten()))[offset:].view(x.shape) for x in numbers]

    own = torch.float64 if wide else torch.float32
    params, grads, means, squares, average = (column(seed) for seed in range(5))
    return Leaves(
        [x.to(own) for x in params],
        [x.to(grad).to(torch.float64 if wide else grad) for x in grads],
        [x.to(own) for x in means],
        [x.abs().to(own) for x in squares],
        (1.0, 0.5, 2.0, 1.0, 1.0, 0.0),
        (True, False, True, True, False, True),
        wakes or (0,) * len(SIZES),
        [x.to(own) for x in average] if averages else [],
        [x.to(copy) for x in column(7)] if copy else [],
    )


def assert_near(ours, theirs):
    for name, column, exact in zip(
        ("params", "grads", "means", "squares", "averages"), ours.columns(), theirs.columns(), strict=False
    ):
        for x, y in zip(column, exact, strict=True):
            torch.testing.assert_close(x.double(), y.double(), rtol=2e-6, atol=2e-7, msg=lambda m, n=name: f"{n}: {m}")
    for copy, param in zip(ours.copies, ours.params, strict=False):
        cut = copy.dtype == torch.bfloat16 and not copy.is_cuda  # the interpreter cuts digits off, a GPU rounds
        torch.testing.assert_close(copy, param.to(copy.dtype), rtol=2**-7 if cut else 0, atol=0)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    count=st.sampled_from([0, 1, 7, 10**5]),
    grad=st.sampled_from([torch.float32, torch.bfloat16]),
    averages=st.booleans(),
    copy=st.sampled_from([None, torch.bfloat16, torch.float16]),
    factor=st.sampled_from([None, 0.3]),
    scheduled=st.booleans(),
    sleepy=st.booleans(),
    offset=st.sampled_from([0, 1]),
)
def test_all_is_what_it_is_in_float64(device, count, grad, averages, copy, factor, scheduled, sleepy, offset):
    wakes = (0, 8, 0, 1, 0, 0) if sleepy else None
    ours, exact = (
        leaves_of(device, wide, grad, averages, copy, wakes, 0 if wide else offset) for wide in (False, True)
    )
    numbers = [torch.tensor(x, dtype=torch.float64, device=device) if scheduled else x for x in (0.05, 0.9)]
    rates = Rates(
        torch.tensor(1e-2, device=device),
        torch.tensor(count, device=device),
        (0.9, 0.999),
        1e-8,
        numbers[0],
        torch.tensor(False, device=device) if scheduled else None,
        None if factor is None else torch.tensor(factor, device=device),
        numbers[1],
    )
    adamw_ema_(ours, rates)
    adamw_ema_plain_(exact, rates)
    assert_near(ours, exact)


def test_a_skipped_update_changes_no_bit_whatever_the_gradient(device):
    ours, before = leaves_of(device, False), leaves_of(device, False)
    ours.grads[0].fill_(torch.nan)
    skip = torch.tensor(True, device=device)
    adamw_ema_(
        ours, Rates(torch.tensor(1.0, device=device), torch.tensor(0, device=device), (0.9, 0.999), 1e-8, 0.1, skip)
    )
    for place in (0, 2, 3, 4, 5):
        assert all(map(torch.equal, ours.columns()[place], before.columns()[place]))


def trees(device):
    names = ("a.weight", "a.bias", "b.weight")
    shapes = ((5, 4), (5,), (3, 2, 3))
    return [
        {n: normal(k, s, torch.float32).to(device) for n, k, s in zip(names, split(key(seed), 3), shapes, strict=True)}
        for seed in range(3)
    ]


def updated(impl, device, **how):
    params, grads, average = trees(device)
    optimizer = adamw(1e-2, weight_decay=0.1, lr_scales={"b.*": 0.5}, wake={"a.bias": 1}, impl=impl)
    state = optimizer.init(params)
    for step in range(3):
        skip = torch.tensor(step == 1, device=device)
        told = optimizer.update_all_(params, grads, state, skip=skip, average=average, ema_decay=0.9, **how)
    return params, state, average, told


@pytest.mark.parametrize("factor", [None, 0.25])
def test_the_optimizer_in_one_pass_is_the_optimizer_in_parts(factor, device):
    how = {} if factor is None else {"factor": torch.tensor(factor, device=device)}
    parts = updated("torch", device, **how)
    for impl in ("triton", "plain"):
        for a, b in zip(updated(impl, device, **how), parts, strict=True):
            for x, y in zip(leaves(a), leaves(b), strict=True):
                torch.testing.assert_close(x, y, rtol=2e-6, atol=1e-7)


def test_what_the_kernel_cannot_take_is_updated_in_parts_or_is_an_error(device):
    assert "float32" in unsupported(leaves_of(device, True))
    strided = leaves_of(device, False)
    assert unsupported(strided) is None
    assert "contiguous" in unsupported(strided._replace(params=[torch.zeros(4, 2, device=device).T]))
    params, grads = ({"a": x} for x in torch.ones(2, 3, dtype=torch.float64, device=device))
    found = clone(params), clone(params)
    for impl, tree in zip(("auto", "torch"), found, strict=True):
        optimizer = adamw(0.1, impl=impl)
        optimizer.update_all_(tree, grads, optimizer.init(tree))
    assert torch.equal(found[0]["a"], found[1]["a"])
    optimizer = adamw(0.1, impl="triton")
    with pytest.raises(ValueError, match="not all params are float32"):
        optimizer.update_all_(params, grads, optimizer.init(params))


def test_it_compiles_into_one_graph(device):
    def update(*columns):
        leaves = Leaves(*columns[:4], [1.0] * 3, [True] * 3, [0] * 3, columns[4])
        rates = Rates(torch.tensor(0.1), torch.tensor(0), (0.9, 0.999), 1e-8, 0.1, ema_decay=0.9)
        adamw_ema_(leaves, Rates(*(x.to(device) if isinstance(x, torch.Tensor) else x for x in rates)))

    both = [[[x.clone() for x in column[:3]] for column in leaves_of(device, False).columns()[:5]] for _ in range(2)]
    torch.compile(update, fullgraph=True, backend="aot_eager")(*both[0])
    update(*both[1])
    for a, b in zip(*both, strict=True):
        assert all(map(torch.equal, a, b))
