"""SGD against torch.optim.SGD."""

import pytest
import torch

from blocks import tree
from blocks.optim.schedule import warmup_cosine
from blocks.optim.sgd import sgd
from tests.optim.table import params_of, torch_leaves, torch_run

SCHEDULE = warmup_cosine(1e-1, 3, 8, start=1e-3, end=1e-4)


def both(dtype, fused, **knobs):
    """Yields (our params, torch's leaves) after each of ten updates."""
    params = params_of(0, dtype)
    leaves, decayed, exempt = torch_leaves(params)
    theirs = torch.optim.SGD(
        [{"params": decayed, "weight_decay": 0.1}, {"params": exempt, "weight_decay": 0.0}],
        lr=1.0,
        fused=fused,
        foreach=not fused,
        **knobs,
    )
    optimizer = sgd(SCHEDULE, weight_decay=0.1, **knobs)
    state = optimizer.init(params)
    for step in torch_run(theirs, leaves, SCHEDULE):
        params, state = optimizer.update(params, params_of(100 + step, dtype), state)
        yield tree.flatten(params), leaves


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("knobs", [{"momentum": 0.0}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}], ids=str)
def test_sgd_equals_torch_optim_bit_for_bit_with_decay_groups_and_a_schedule(dtype, knobs):
    for params, leaves in both(dtype, True, **knobs):
        assert all(torch.equal(params[name], leaf) for name, leaf in leaves.items())


def test_dampening_equals_torch_optim_to_rounding_and_spares_the_first_gradient():
    for params, leaves in both(torch.float64, False, momentum=0.9, dampening=0.3):
        for name, leaf in leaves.items():
            torch.testing.assert_close(params[name], leaf.detach(), atol=1e-14, rtol=1e-14)


def test_without_momentum_the_state_is_the_count_alone():
    assert tree.flatten(sgd(0.1, momentum=0.0).init(params_of(0))).keys() == {"count"}


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"momentum": 1.0}, r"momentum 1\.0"),
        ({"momentum": 0.0, "nesterov": True}, r"nesterov .* momentum 0\.0"),
        ({"dampening": 0.1, "nesterov": True}, r"nesterov .* dampening 0\.1"),
        ({"momentum": 0.0, "dampening": 0.1}, r"dampening 0\.1 does nothing"),
    ],
)
def test_impossible_hyperparameters_are_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        sgd(1e-3, **knobs)
