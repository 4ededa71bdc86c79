"""The step means the same however the batch is worked off."""

import pytest
import torch

from blocks.objectives.supervised import Supervised
from blocks.train.step import make_step
from tests.train.small_problem import assert_close, batch_of, net, run, same, setup


def test_accumulation_gives_the_gradient_of_the_whole_batch():
    """Dropout too: a sample's mask follows from its index."""
    objective, optimizer, state = setup(objective=Supervised(net(), 0.1), ema=False)
    whole = run(make_step(objective, optimizer), state)
    for parts in (2, 4):
        halves = run(make_step(objective, optimizer, accumulate=parts), state)
        assert_close(halves[0].params, whole[0].params, atol=2e-6, rtol=1e-5)
        assert_close(halves[1], whole[1], atol=1e-5, rtol=1e-5)


def test_without_an_index_samples_are_numbered_in_order():
    objective, optimizer, state = setup(ema=False)
    batch = batch_of()
    bare = {name: value for name, value in batch.items() if name != "index"}
    step = make_step(objective, optimizer, accumulate=2)
    assert same(step(state, batch)[0], step(state, bare)[0])


def test_a_batch_that_does_not_divide_is_refused():
    objective, optimizer, state = setup(ema=False)
    with pytest.raises(ValueError, match=r"batch of 8 .* in 3 equal parts"):
        make_step(objective, optimizer, accumulate=3)(state, batch_of())


def test_memory_passes_from_one_part_of_the_batch_to_the_next():
    objective, optimizer, state = setup(ema=False)
    state, _ = make_step(objective, optimizer, accumulate=4)(state, batch_of())
    assert state.memory["seen"] == 4
    assert same(state.memory["frozen"], torch.ones(2, 2))
    torch.testing.assert_close(state.memory["mean"], batch_of()["images"][6:].mean((0, 2, 3)))
