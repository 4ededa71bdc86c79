"""SimCLR against its equation 1, through model and head, in float64."""

import pytest
import torch

from blocks import tree
from blocks.objectives.simclr import SimCLR
from blocks.trunks.convit import convit
from blocks.trunks.vit import vit
from tests.objectives.contrastive import model
from tests.objectives.views import assert_close, batch_of, gradient, same, start
from tests.ops.test_nt_xent import by_hand


def reference(objective, params, batch):
    """All views through batch norm together."""
    views = [crops for name in batch if "crops" in name for crops in batch[name].unbind(1)]
    features = torch.cat([objective.model.features(params, view) for view in views])
    z = objective.model.head(params["head"], features)
    return by_hand((z / z.norm(dim=1, keepdim=True)).unflatten(0, (len(views), -1)), objective.temperature)


@pytest.mark.parametrize("make", [vit, convit])
@pytest.mark.parametrize("small", [0, 2])
def test_loss_and_gradient_are_the_papers(make, small):
    objective = SimCLR(model(make, norm="batch"), 0.2)
    params, memory = start(objective)
    batch = batch_of(size=5, small=small)
    loss, _, metrics, grads = gradient(objective, params, memory, batch)
    leaves = tree.map(lambda p: p.clone().requires_grad_(), params)
    expected = reference(objective, leaves, batch)
    flat = tree.flatten(leaves)
    wanted = torch.autograd.grad(expected, list(flat.values()), allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-11, atol=1e-11)
    assert_close(grads, dict(zip(flat, wanted, strict=True)), rtol=1e-9, atol=1e-10)
    assert 0 < metrics["feature_std"] < 1.3


@pytest.mark.parametrize("skip", [False, True])
def test_its_memory_is_the_heads_running_moments(skip):
    objective = SimCLR(model(norm="batch"))
    params, memory = start(objective)
    before = tree.clone(memory)
    _, noted, _ = objective.loss(params, memory, batch_of(), None)
    memory, metrics = objective.settle_(params, noted, torch.tensor(skip))
    assert memory.keys() == {"step", "moments"}
    assert metrics == {}
    assert same(memory, before) == skip


@pytest.mark.parametrize(("views", "images"), [(1, 4), (2, 1)])
def test_nothing_to_compare_is_refused(views, images):
    objective, batch = SimCLR(model()), batch_of(size=images)
    batch["crops.0"] = batch["crops.0"][:, :views]
    with pytest.raises(ValueError, match=f"{views} views of {images} images"):
        objective.loss(*start(objective), batch, None)


def test_two_views_of_two_images_are_enough():
    objective = SimCLR(model())
    params, memory = start(objective)
    loss, _, _ = objective.loss(params, memory, batch_of(size=2), None)
    torch.testing.assert_close(loss, reference(objective, params, batch_of(size=2)))


def test_a_temperature_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="temperature"):
        SimCLR(model(), 0.0)
