"""Any optimizer and any clip can be swept."""

import pytest
import torch

from blocks import tree
from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.optim.clip import ClipAdaptive, ClipEach, ClipNorm, ClipValue
from blocks.optim.lamb import lamb
from blocks.optim.lars import lars
from blocks.optim.lion import lion
from blocks.optim.muon import muon
from blocks.optim.schedule import cosine
from blocks.optim.sgd import sgd
from blocks.random import key
from blocks.train.step import init_state, make_step
from blocks.train.sweep_step import init_sweep, make_sweep_step, run_of
from tests.train import small_problem
from tests.train.small_problem import assert_close
from tests.train.small_sweep import STEPS

RATES = (1e-3, 1e-2)
FAMILIES = {
    "AdamW with rates and decays of their own": lambda lr: adamw(
        lr, weight_decay=cosine(10 * lr, 0, STEPS), lr_scales={"fc1.*": 0.5}
    ),
    "SGD": lambda lr: sgd(lr, weight_decay=1e-3, nesterov=True),
    "LAMB": lamb,
    "LARS": lars,
    "Lion": lion,
    "Muon": muon,
}
CLIPS = (ClipNorm(0.1), ClipEach(0.05), ClipValue(1e-3), ClipAdaptive())
PAIRS = [(family, None) for family in FAMILIES] + [("SGD", clip) for clip in CLIPS]


@pytest.mark.parametrize(("family", "clip"), PAIRS, ids=str)
def test_any_optimizer_and_any_clip_do_to_a_run_what_they_do_to_it_alone(family, clip):
    objective, many = Supervised(small_problem.net(), 0.1), [FAMILIES[family](lr) for lr in RATES]
    state = tree.cast(init_sweep(objective, many, [key(1), key(2)]), torch.float64)
    alone = tree.cast(init_state(objective, many[1], key(2)), torch.float64)
    together, one = make_sweep_step(objective, many, clip=clip), make_step(objective, many[1], clip=clip)
    for number in range(3):
        batch = small_problem.batch_of(seed=number)
        batch["images"] = batch["images"].double()
        state, metrics = together(state, batch)
        alone, row = one(alone, batch)
    assert_close(run_of(state, 1), alone, rtol=1e-9, atol=1e-10)
    assert_close(run_of(metrics, 1), row)
