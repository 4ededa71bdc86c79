"""What every optimizer keeps: one table, all of them."""

import importlib
import pkgutil

import attrs
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import blocks.optim
from blocks import tree
from blocks.optim.ema import ema_update_
from blocks.optim.groups import Grouped
from blocks.optim.optimizer import Optimizer
from blocks.optim.schedule import constant, cosine, linear
from tests.optim.table import DECAYED, ROWS, assert_close, make, params_of, run, same

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
EVERY = pytest.mark.parametrize("row", ROWS)


def test_no_optimizer_is_missing_from_the_table():
    for module in pkgutil.iter_modules(blocks.optim.__path__):
        importlib.import_module(f"blocks.optim.{module.name}")
    known = {type(make(row)) for row in ROWS}
    assert set(subclasses(Optimizer)) - {Grouped} == known


def subclasses(cls):
    for sub in cls.__subclasses__():
        if sub.__module__.startswith("blocks."):
            yield sub
        yield from subclasses(sub)


@EVERY
@DTYPES
def test_update_is_pure_and_update_in_place_gives_the_same(row, dtype):
    optimizer, params, grads = make(row), params_of(0, dtype), params_of(1, dtype)
    _, state = run(optimizer, params, 1)
    before = tree.clone({"params": params, "grads": grads, "state": state})
    new_params, new_state = optimizer.update(params, grads, state)
    assert same({"params": params, "grads": grads, "state": state}, before)
    optimizer.update_(params, grads, state)
    assert same({"p": params, "s": state}, {"p": new_params, "s": new_state})
    assert same(grads, before["grads"])
    assert all(t.dtype == dtype for t in tree.flatten(params).values())
    changed = tree.flatten(tree.map(lambda a, b: (a != b).any(), params, before["params"]))
    assert all(changed.values()), changed


@EVERY
@pytest.mark.parametrize("skip", [None, torch.tensor(False), torch.tensor(True)], ids=["plain", "kept", "skipped"])
def test_all_at_once_is_the_scaled_gradients_update_and_then_the_average(row, skip):
    optimizer, params, grads = make(row), params_of(0), params_of(1)
    before = tree.clone(grads)
    once = tree.clone({"params": params, "state": optimizer.init(params), "average": params_of(2)})
    knobs = {"skip": skip, "factor": torch.tensor(0.5), "average": once["average"], "ema_decay": 0.9}
    optimizer.update_all_(once["params"], grads, once["state"], **knobs)
    halved, average = tree.map(lambda g: 0.5 * g, grads), params_of(2)
    params, state = optimizer.update(params, halved, optimizer.init(params), skip=skip)
    ema_update_(average, params, 0.9, skip=skip)
    assert same(once, {"params": params, "state": state, "average": average})
    assert same(grads, before)


@EVERY
def test_all_at_once_without_factor_and_average_is_the_update(row):
    optimizer, params, grads = make(row), params_of(0), params_of(1)
    once = tree.clone({"params": params, "state": optimizer.init(params)})
    optimizer.update_all_(once["params"], grads, once["state"])
    params, state = optimizer.update(params, grads, optimizer.init(params))
    assert same(once, {"params": params, "state": state})


@EVERY
@DTYPES
@pytest.mark.parametrize("weight_decay", [0.1, cosine(0.04, 0.4, 10)], ids=["number", "schedule"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_skipped_update_changes_nothing_bit_for_bit_not_even_the_count(row, dtype, weight_decay, bad):
    optimizer = make(row, cosine(1e-2, 0, 10), weight_decay)
    for steps in (0, 2):
        params, state = run(optimizer, params_of(0, dtype), steps)
        broken = tree.map(lambda t: torch.full_like(t, bad), params)
        new = optimizer.update(params, broken, state, skip=torch.tensor(True))
        assert same({"p": new[0], "s": new[1]}, {"p": params, "s": state})


@EVERY
@pytest.mark.parametrize("weight_decay", [0.1, cosine(0.04, 0.4, 10)], ids=["number", "schedule"])
def test_an_update_that_might_have_been_skipped_is_the_one_that_could_not(row, weight_decay):
    optimizer = make(row, weight_decay=weight_decay)
    one, two = run(optimizer, params_of(0)), run(optimizer, params_of(0), skip=torch.tensor(False))
    assert same({"p": one[0], "s": one[1]}, {"p": two[0], "s": two[1]})


@EVERY
def test_the_state_is_a_tree_that_goes_on_after_it_was_taken_apart_by_name(row):
    optimizer = make(row, cosine(1e-2, 0, 10))
    params, state = run(optimizer, params_of(0))
    leaves = tree.flatten(state)
    assert leaves["count"] == 3
    assert leaves["count"].dtype == torch.int64
    again = tree.like(optimizer.init(params), {name: leaf.clone() for name, leaf in leaves.items()})
    one, two = (optimizer.update(params, params_of(9), s) for s in (state, again))
    assert same({"p": one[0], "s": one[1]}, {"p": two[0], "s": two[1]})


@EVERY
def test_another_with_one_knob_changed_keeps_all_others(row):
    """What a rule was given by name lies in it as tuples, which it takes too."""
    optimizer = make(row, no_decay=("head.*",), lr_scales={"*.bias": 0.5}, wake={"head.*": 2})
    assert attrs.evolve(optimizer, schedule=0.5) != optimizer
    assert attrs.evolve(attrs.evolve(optimizer, schedule=0.5), schedule=optimizer.schedule) == optimizer


@EVERY
def test_params_may_come_flat_or_as_a_tree(row):
    optimizer, params, grads = make(row), params_of(0), params_of(1)
    state = optimizer.init(params)
    assert same(optimizer.init(tree.flatten(params)), state)
    deep, deep_state = optimizer.update(params, grads, state)
    flat, flat_state = optimizer.update(tree.flatten(params), tree.flatten(grads), state)
    assert same(tree.flatten(deep), flat)
    assert same(deep_state, flat_state)


@EVERY
def test_the_reported_rate_and_decay_are_those_that_were_used(row):
    rate, decay = cosine(1e-2, 1e-3, 5), linear(0.1, 0.2, 5)
    params, optimizer = params_of(0), make(row, rate, decay)
    state = optimizer.init(params)
    told = [optimizer.update_(params, params_of(1), state) for _ in range(4)]
    assert [m["lr"].item() for m in told] == [rate(i).item() for i in range(4)]
    assert [m["weight_decay"].item() for m in told] == [decay(i).item() for i in range(4)]
    assert make(row).update_(params, params_of(1), state).keys() == {"lr"}


@EVERY
@DTYPES
def test_a_scheduled_decay_that_stands_still_is_the_number(row, dtype):
    params = params_of(0, dtype)
    one, _ = run(make(row, weight_decay=0.1), params)
    two, _ = run(make(row, weight_decay=constant(0.1)), params)
    assert_close(one, two)


@EVERY
def test_the_decay_reaches_those_that_decay_and_no_others(row):
    params = params_of(0)
    weak, strong = (tree.flatten(run(make(row, weight_decay=w), params)[0]) for w in (0.1, 0.9))
    assert {name for name in weak if not torch.equal(weak[name], strong[name])} == DECAYED
    words = make(row, weight_decay=0.1).describe(params)
    assert list(words) == list(weak)
    assert {name for name, word in words.items() if "no weight decay" not in word} == DECAYED


@EVERY
def test_a_factor_on_the_rate_is_a_rate_of_its_own(row):
    """Leaf by leaf no optimizer looks at another, so that two runs at two rates have all the numbers."""
    params = params_of(0)
    mixed, _ = run(make(row, 1e-2, lr_scales={"blocks.1.*": 0.5, "*.bias": 0.0}), params)
    mixed, whole, half, still = map(tree.flatten, (mixed, *(run(make(row, r), params)[0] for r in (1e-2, 5e-3, 0.0))))
    for name, value in mixed.items():
        source = half if name.startswith("blocks.1.") else still if name.endswith(".bias") else whole
        torch.testing.assert_close(value, source[name], msg=name)
    assert "rate x 0.5" in make(row, lr_scales={"blocks.1.*": 0.5}).describe(params)["blocks.1.up.weight"]


@EVERY
def test_the_next_update_uses_the_rate_of_the_updates_that_were_applied(row):
    """A skipped one does not move the schedule on."""
    optimizer, params = make(row, linear(1e-2, 0, 4)), params_of(0)
    state = optimizer.init(params)
    rates = []
    for skip in (False, True, True, False):
        rates.append(optimizer.update_(params, params_of(1), state, skip=torch.tensor(skip))["lr"].item())
    assert rates == [linear(1e-2, 0, 4)(i).item() for i in (0, 1, 1, 1)]


@EVERY
def test_an_update_never_asks_for_a_number_that_is_still_on_the_device(row, monkeypatch):
    """Fake tensors have no numbers: whoever asks for one gets an error. `.item()` on a GPU would wait for it.

    The fused kernels know no fake tensors; on a GPU they take the rate as it lies there.
    """
    for kernel in ("_fused_adamw_", "_fused_sgd_"):
        monkeypatch.setattr(torch, kernel, lambda *lists, **knobs: None)
    with FakeTensorMode():
        params, grads = (tree.map(lambda t: torch.empty(t.shape, device="meta"), params_of(0)) for _ in range(2))
        optimizer = make(row, cosine(1e-2, 0, 10), cosine(0.04, 0.4, 10))
        state = optimizer.init(params)
        optimizer.update_(params, grads, state, skip=torch.empty((), dtype=torch.bool, device="meta"))


@EVERY
def test_it_finds_the_bottom_of_a_bowl(row):
    target, params = params_of(1), params_of(0)
    optimizer = make(row, cosine(0.2, 0, 60), 0.0)
    state = optimizer.init(params)
    start = distance(params, target)
    for _ in range(60):
        optimizer.update_(params, tree.map(torch.sub, params, target), state)
    assert distance(params, target) < 0.4 * start


def distance(a, b):
    return torch.stack([(x - y).norm() for x, y in zip(tree.leaves(a), tree.leaves(b), strict=True)]).norm().item()


@EVERY
def test_impossible_knobs_are_refused_with_their_value(row):
    with pytest.raises(ValueError, match=r"weight_decay -0\.1"):
        make(row, weight_decay=-0.1)
    with pytest.raises(ValueError, match=r"rate -0\.01"):
        make(row, -0.01)
    with pytest.raises(ValueError, match=r"'\*\.bias': -1"):
        make(row, lr_scales={"*.bias": -1})
    with pytest.raises(ValueError, match="one string"):
        make(row, no_decay="cls_token")


@EVERY
def test_patterns_without_a_match_and_params_without_a_kernel_are_refused_before_the_first_update(row):
    with pytest.raises(ValueError, match="'gates' matches no parameter"):
        make(row, no_decay=("gates",)).init(params_of(0))
    with pytest.raises(ValueError, match="'tail' matches no parameter"):
        make(row, lr_scales={"tail": 2.0}).init(params_of(0))
    with pytest.raises(ValueError, match=r"w torch\.float32"):
        make(row).init({"w": torch.zeros(3, 2).T})
