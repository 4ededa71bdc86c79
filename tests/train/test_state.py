"""The first state of a run."""

import attrs
import torch

from blocks import tree
from blocks.random import key
from blocks.train.state import State
from blocks.train.step import init_state
from tests.train.small_problem import same, setup


def test_the_first_state_follows_from_the_key():
    objective, optimizer, state = setup()
    assert same(state, init_state(objective, optimizer, key(3), ema=True))
    assert not same(state.params, init_state(objective, optimizer, key(4), ema=True).params)


def test_a_state_is_a_tree_that_comes_back_from_its_leaves():
    _, _, state = setup()
    assert isinstance(tree.like(state, tree.flatten(state)), State)
    assert same(tree.like(state, tree.flatten(state)), state)
    names = ["params", "optimizer", "memory", "ema", "step", "key", "skipped", "loss_scale"]
    assert [f.name for f in attrs.fields(State)] == names


def test_all_of_it_is_where_the_key_is():
    objective, optimizer, _ = setup()
    state = init_state(objective, optimizer, key(3, "meta"), ema=True, precision="float16")
    elsewhere = {name for name, leaf in tree.flatten(state).items() if leaf.device.type != "meta"}
    assert elsewhere == {"memory.seen", "memory.mean", "memory.frozen"}  # the objective's own affair
    assert state.loss_scale["good_steps"].dtype == torch.int64


def test_no_two_leaves_share_storage():
    """A donated state is updated in place, leaf by leaf."""
    _, _, state = setup()
    places = [t.data_ptr() for t in tree.flatten(state).values()]
    assert len(places) == len(set(places))


def test_without_ema_there_is_none():
    _, _, state = setup(ema=False)
    assert state.ema == {}
    assert state.step == state.skipped == 0
    assert state.step.dtype == state.skipped.dtype == torch.int64
