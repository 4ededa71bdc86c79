"""The step in bfloat16."""

import torch

from blocks import tree
from blocks.random import key
from blocks.train.step import init_state, make_step
from tests.train.small_problem import Descent, batch_of, moved, run, setup


def test_bfloat16_computes_nearly_the_same_and_keeps_float32_masters():
    objective, optimizer, state = setup(rate=0.0)
    half, metrics = run(make_step(objective, optimizer, ema_decay=0.9, precision="bfloat16"), state)
    for leaf in tree.flatten({"p": half.params, "e": half.ema, "m": half.optimizer["exp_avg"]}).values():
        assert leaf.dtype == torch.float32
    assert metrics["loss"].dtype == torch.float32


def test_the_gradient_in_bfloat16_is_within_its_rounding_of_the_full_one():
    """bfloat16 has 8 bits: 0.4 % a rounding."""
    objective, optimizer = setup(rate=0.0)[0], Descent()
    state = init_state(objective, optimizer, key(3))
    full, _ = make_step(objective, optimizer)(state, batch_of())
    half, _ = make_step(objective, optimizer, precision="bfloat16")(state, batch_of())
    assert 0 < moved(half, full) < 0.02 * moved(full, state)
