"""Muon against torch.optim.Muon, an exact orthogonal step, and AdamW for the rest."""

import pytest
import torch

from blocks import tree
from blocks.optim.adamw import adamw
from blocks.optim.muon import muon, orthogonal
from blocks.optim.schedule import linear
from tests.optim.table import params_of, run, torch_run

SCHEDULE = linear(2e-2, 1e-3, 10)
HIDDEN = {"blocks.0.fc.weight", "blocks.1.fc.weight", "blocks.1.up.weight"}


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("adjust", ["match_rms_adamw", "original"])
def test_hidden_matrices_equal_torchs_muon(nesterov, adjust):
    """Both work in bfloat16 inside; there a last digit is 0.4 % of a step, and steps differ in such digits."""
    params = params_of(0)
    leaves = {n: t.clone().requires_grad_() for n, t in tree.flatten(params).items()}
    matrices = [leaves[name] for name in sorted(HIDDEN)]
    theirs = torch.optim.Muon(matrices, weight_decay=0.1, momentum=0.9, nesterov=nesterov, adjust_lr_fn=adjust)
    assert len(list(torch_run(theirs, leaves, SCHEDULE, 6))) == 6
    new = tree.flatten(run(muon(SCHEDULE, 0.9, 0.1, nesterov=nesterov, adjust=adjust), params, 6)[0])
    for name in HIDDEN:
        moved = (leaves[name].detach() - tree.flatten(params)[name]).norm()
        assert (new[name] - leaves[name]).norm() < 0.01 * moved, name


def test_all_else_equals_adamw_bit_for_bit():
    params, betas = params_of(0), (0.8, 0.95)
    ours = tree.flatten(run(muon(SCHEDULE, betas=betas, weight_decay=0.1), params)[0])
    adams = tree.flatten(run(adamw(SCHEDULE, betas, weight_decay=0.1), params)[0])
    assert {name for name in ours if not torch.equal(ours[name], adams[name])} == HIDDEN


def test_the_state_holds_for_each_parameter_what_its_own_rule_needs():
    state = muon(0.1).init(params_of(0))
    assert state["momentum_buffer"].keys() == HIDDEN
    assert state["exp_avg"].keys() == state["exp_avg_sq"].keys() == tree.flatten(params_of(0)).keys() - HIDDEN


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 24), (2, 24, 8)])
def test_the_iteration_keeps_singular_vectors_and_brings_singular_values_near_one(shape):
    """About 0.7 to 1.2 say Jordan et al., for values not too far below the norm."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    values = u.mT @ orthogonal(x) @ vh.mT
    diagonal = values.diagonal(dim1=-2, dim2=-1)
    assert diagonal.min() > 0.6
    assert diagonal.max() < 1.3
    torch.testing.assert_close(values, torch.diag_embed(diagonal), atol=1e-10, rtol=0)


def test_a_matrix_does_not_depend_on_those_it_is_stacked_with():
    x = torch.randn(4, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(orthogonal(x)[1:2], orthogonal(x[1:2]), atol=1e-12, rtol=0)


def test_a_zero_gradient_is_no_step():
    assert torch.equal(orthogonal(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


def test_describe_says_which_rule_a_parameter_has():
    words = muon(0.1, weight_decay=0.05).describe(params_of(0))
    assert words["blocks.0.fc.weight"] == "Muon, weight decay 0.05"
    assert words["head.weight"] == "AdamW, weight decay 0.05"
    assert words["cls_token"] == "AdamW, no weight decay"


def test_matrices_may_be_named():
    state = muon(0.1, matrices=("head.weight", "blocks.*.up.*")).init(params_of(0))
    assert state["momentum_buffer"].keys() == {"head.weight", "blocks.1.up.weight"}
    with pytest.raises(ValueError, match=r"patch_embed\.proj\.weight has 4 axes"):
        muon(0.1, matrices=("*.weight",)).init({"patch_embed": {"proj": {"weight": torch.zeros(1, 1, 2, 2)}}})
    with pytest.raises(ValueError, match="'fc' matches no parameter"):
        muon(0.1, matrices=("fc",)).init(params_of(0))


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"adjust": "none"}, "'none' is unknown; there are 'match_rms_adamw', 'original'"),
        ({"iterations": 0}, "iterations 0 is not a count"),
        ({"momentum": 1.0}, r"momentum 1\.0"),
    ],
)
def test_impossible_hyperparameters_are_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        muon(1e-3, **knobs)
