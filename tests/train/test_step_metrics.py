"""What the step tells."""

import pytest

from blocks.optim.adamw import adamw
from blocks.optim.schedule import linear
from blocks.random import key
from blocks.train.step import init_state, make_step
from tests.train.small_problem import batch_of, setup


def test_metrics_are_scalars_with_loss_rate_norm_and_the_objectives_own():
    objective, optimizer, state = setup(ema=False)
    _, metrics = make_step(objective, optimizer)(state, batch_of())
    assert set(metrics) == {"loss", "lr", "grad_norm", "skipped", "top1"}
    assert all(value.shape == () for value in metrics.values())
    assert metrics["lr"] == 1e-3


def test_a_scheduled_weight_decay_is_among_the_metrics():
    objective, _, _ = setup()
    optimizer = adamw(1e-3, weight_decay=linear(0.1, 0.2, 10))
    _, metrics = make_step(objective, optimizer)(init_state(objective, optimizer, key(3)), batch_of())
    assert metrics["weight_decay"] == pytest.approx(0.1)
