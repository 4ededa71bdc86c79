"""Params that sleep through the first updates: nothing of them moves, and then they begin as in their first."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from blocks import tree
from blocks.optim.schedule import cosine
from tests.optim.table import ROWS, make, params_of, same

EVERY = pytest.mark.parametrize("row", ROWS)
WAKE = {"head.*": 2, "blocks.1.*": 3}  # a matrix and a vector, and Muon's matrices


def of_head(name):
    return name.startswith("head.")


def of_layer(name):
    return name.startswith("blocks.1.")


def is_late(name):
    return of_head(name) or of_layer(name)


def is_early(name):
    return not is_late(name)


def walk(optimizer, steps, params=None, first=0, skips=()):
    """[(params, state) before the first update, after it, ...], by gradients of their own."""
    params = params_of(0) if params is None else params
    pairs = [(params, optimizer.init(params))]
    for step in range(first, first + steps):
        params, state = optimizer.update(*pairs[-1][:1], params_of(100 + step), pairs[-1][1], skip=skip(step, skips))
        pairs.append((params, state))
    return pairs


def skip(step, skips):
    return torch.tensor(step in skips) if skips else None


def part(pair, chosen):
    """The leaves of params and state whose param is chosen, "count" left out."""
    flat = tree.flatten({"params": pair[0], **pair[1]})
    return {name: leaf for name, leaf in flat.items() if name != "count" and chosen(name.split(".", 1)[1])}


@EVERY
def test_while_they_sleep_nothing_of_them_moves_and_the_others_do_as_ever(row):
    plain, sleeping = walk(make(row), 4), walk(make(row, wake=WAKE), 4)
    for before, after in zip(plain, sleeping, strict=True):
        assert same(part(after, is_early), part(before, is_early))
    for update in (1, 2):
        assert same(part(sleeping[update], is_late), part(sleeping[0], is_late))
    for chosen, update in ((of_head, 3), (of_layer, 4)):
        assert same(part(sleeping[update - 1], chosen), part(sleeping[0], chosen))
        assert not same(part(sleeping[update], chosen), part(sleeping[0], chosen))


@EVERY
def test_when_they_wake_they_begin_as_in_their_first_update(row):
    """Leaf by leaf no optimizer looks at another: so a fresh one that starts there has their numbers."""
    sleeping, fresh = walk(make(row, wake=WAKE), 6), walk(make(row), 4, first=2)
    for own in range(5):
        assert same(part(sleeping[2 + own], of_head), part(fresh[own], of_head))
    for pair in sleeping:
        assert all(leaf.isfinite().all() for leaf in tree.leaves(pair[1]))


@EVERY
def test_a_skipped_update_does_not_bring_their_waking_nearer(row):
    with_skips = walk(make(row, wake=WAKE), 6, skips=(0, 3))
    before = part(with_skips[0], is_late)
    assert [same(part(pair, is_late), before) for pair in with_skips] == [True] * 5 + [False] * 2
    assert with_skips[-1][1]["count"] == 4


@EVERY
def test_whether_they_sleep_is_never_asked_of_the_device(row, monkeypatch):
    """Fake tensors have no numbers; see test_contract."""
    for kernel in ("_fused_adamw_", "_fused_sgd_"):
        monkeypatch.setattr(torch, kernel, lambda *lists, **knobs: None)
    with FakeTensorMode():
        params, grads = (tree.map(lambda t: torch.empty(t.shape, device="meta"), params_of(0)) for _ in range(2))
        optimizer = make(row, cosine(1e-2, 0, 10), cosine(0.04, 0.4, 10), wake=WAKE)
        optimizer.update_(params, grads, optimizer.init(params), skip=torch.empty((), dtype=torch.bool, device="meta"))


def test_0_updates_are_no_sleep():
    plain, awake = walk(make("adamw"), 2), walk(make("adamw", wake={"head.*": 0}), 2)
    assert all(same(a[0], b[0]) and same(a[1], b[1]) for a, b in zip(plain, awake, strict=True))
    assert make("adamw", wake={"head.*": 0}).describe(params_of(0)) == make("adamw").describe(params_of(0))


def test_an_optimizer_says_who_sleeps():
    words = make("adamw", wake=WAKE).describe(params_of(0))
    assert "asleep for 2 updates" in words["head.bias"]
    assert "asleep" not in words["norm.weight"]


def test_patterns_that_match_nothing_or_twice_and_what_is_no_number_of_updates_are_refused():
    with pytest.raises(ValueError, match=r"'blocks.1.\*': -3, which is not a number of updates"):
        make("adamw", wake={"blocks.1.*": -3})
    with pytest.raises(ValueError, match=r"0\.5, which is not a number of updates"):
        make("adamw", wake={"head.*": 0.5})
    with pytest.raises(ValueError, match="'prototypes' matches no parameter"):
        make("adamw", wake={"prototypes": 1}).init(params_of(0))
    with pytest.raises(ValueError, match=r"head\.bias matches two of wake"):
        make("adamw", wake={"head.*": 1, "*.bias": 2}).init(params_of(0))
