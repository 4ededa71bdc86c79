"""MoCo v3 against the paper's algorithm 1, in float64."""

import pytest
import torch
import torch.nn.functional as F

from blocks import tree
from blocks.objectives.moco_v3 import info_nce
from blocks.optim.schedule import cosine
from blocks.random import key, normal
from blocks.trunks.convit import convit
from blocks.trunks.vit import vit
from tests.objectives.contrastive import moco_v3
from tests.objectives.views import assert_close, batch_of, gradient, same, start


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def contrast(q, k, temperature):
    """Chen, Xie & He 2021, algorithm 1: ctr(q, k)."""
    logits = unit(q) @ unit(k).T
    return 2 * temperature * F.cross_entropy(logits / temperature, torch.arange(len(q)))


def algorithm_1(objective, params, teacher, batch):
    """ctr(q1, k2) + ctr(q2, k1); of more views, the mean over pairs, times 2."""
    views = [crops for name in batch if "crops" in name for crops in batch[name].unbind(1)]
    q = [objective.predictor(params["predictor"], objective.model(params, view)) for view in views]
    k = [objective.model(teacher, view).detach() for view in batch["crops.0"].unbind(1)]
    pairs = [(v, a) for v in range(len(q)) for a in range(len(k)) if v != a]
    return 2 * sum(contrast(q[v], k[a], objective.temperature) for v, a in pairs) / len(pairs)


@pytest.mark.parametrize("make", [vit, convit])
@pytest.mark.parametrize("small", [0, 2])
def test_loss_and_gradient_are_the_papers(make, small):
    objective = moco_v3(make)
    params, memory = start(objective)
    memory["teacher"] = {name: node for name, node in start(objective, 9)[0].items() if name != "predictor"}
    batch = batch_of(small=small)
    loss, _, metrics, grads = gradient(objective, params, memory, batch)
    leaves = tree.map(lambda p: p.clone().requires_grad_(), params)
    expected = algorithm_1(objective, leaves, memory["teacher"], batch)
    flat = tree.flatten(leaves)
    wanted = torch.autograd.grad(expected, list(flat.values()), allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-11, atol=1e-11)
    assert_close(grads, dict(zip(flat, wanted, strict=True)), rtol=1e-9, atol=1e-10)
    assert 0 < metrics["feature_std"] < 1.3


def test_predictions_that_are_all_alike_cost_the_logarithm_of_the_batch():
    z = unit(normal(key(1), (1, 1, 4), torch.float64)).expand(2, 8, -1)
    torch.testing.assert_close(info_nce(z, z, 0.2), 0.8 * torch.tensor(8.0, dtype=torch.float64).log())


@pytest.mark.parametrize("skip", [False, True])
def test_the_teacher_follows_the_schedule_without_the_predictor_unless_skipped(skip):
    objective = moco_v3(momentum=cosine(0.5, 1.0, 4))
    params, memory = start(objective)
    before, moved = tree.clone(memory), start(objective, 4)[0]
    _, memory, _ = objective.loss(params, memory, batch_of(), None)
    memory, metrics = objective.settle_(moved, memory, torch.tensor(skip))
    assert metrics["teacher_momentum"] == 0.5
    assert "predictor" not in memory["teacher"]
    if skip:
        assert same(memory, before)
    else:
        assert_close(memory["teacher"], tree.map(lambda k, q: (k + q) / 2, before["teacher"], without(moved)))
        assert memory["moments"].keys() == {"head", "predictor"}


def without(params):
    return {name: node for name, node in params.items() if name != "predictor"}


def test_impossible_knobs_and_a_single_view_are_refused():
    with pytest.raises(ValueError, match=r"momentum 1\.5"):
        moco_v3(momentum=1.5)
    with pytest.raises(ValueError, match="temperature"):
        moco_v3(temperature=0.0)
    batch = batch_of()
    batch["crops.0"] = batch["crops.0"][:, :1]
    with pytest.raises(ValueError, match="1 view of an image"):
        moco_v3().loss(*start(moco_v3()), batch, None)


def test_one_image_alone_is_refused():
    """Its loss would be 0, whatever the model says, where no batch norm refuses it."""
    alone = unit(torch.randn(2, 1, 6))
    with pytest.raises(ValueError, match="1 image in all processes has no other that it could be told from"):
        info_nce(alone, alone, 0.2)
