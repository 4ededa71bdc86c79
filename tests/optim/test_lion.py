"""Lion against its paper and timm's."""

import pytest
import timm.optim
import torch

from blocks import tree
from blocks.optim.lion import lion
from blocks.optim.schedule import linear
from tests.optim.table import DECAYED, params_of, run, torch_leaves, torch_run

SCHEDULE = linear(2e-2, 1e-3, 10)


def test_lion_is_the_papers():
    """Chen et al. 2023, algorithm 2."""
    expected = tree.flatten(params_of(0, torch.float64))
    means = {name: torch.zeros_like(w) for name, w in expected.items()}
    for step in range(5):
        for name, g in tree.flatten(params_of(100 + step, torch.float64)).items():
            w, m, lr = expected[name], means[name], float(SCHEDULE(step))
            decay = 0.1 if name in DECAYED else 0.0
            expected[name] = w - lr * ((0.9 * m + 0.1 * g).sign() + decay * w)
            means[name] = 0.99 * m + 0.01 * g
    params, state = run(lion(SCHEDULE, (0.9, 0.99), 0.1), params_of(0, torch.float64), 5)
    for name, w in tree.flatten(params).items():
        torch.testing.assert_close(w, expected[name], atol=1e-14, rtol=1e-14)
        torch.testing.assert_close(state["exp_avg"][name], means[name], atol=1e-14, rtol=1e-14)


def test_lion_is_timms():
    params = params_of(0, torch.float64)
    leaves, decayed, exempt = torch_leaves(params)
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": exempt, "weight_decay": 0.0}]
    theirs = timm.optim.Lion(groups, betas=(0.8, 0.95))
    assert len(list(torch_run(theirs, leaves, SCHEDULE, 5))) == 5
    for name, w in tree.flatten(run(lion(SCHEDULE, (0.8, 0.95), 0.1), params, 5)[0]).items():
        torch.testing.assert_close(w, leaves[name].detach(), atol=1e-14, rtol=1e-14)


def test_every_number_moves_by_the_rate_or_not_at_all():
    params = params_of(0, torch.float64)
    new, _ = run(lion(0.25, weight_decay=0.0), params, 1)
    for old, moved in zip(tree.leaves(params), tree.leaves(new), strict=True):
        torch.testing.assert_close((moved - old).abs(), torch.full_like(old, 0.25))


def test_impossible_betas_are_refused():
    with pytest.raises(ValueError, match=r"betas \(0\.9, 1\.0\)"):
        lion(1e-4, (0.9, 1.0))
