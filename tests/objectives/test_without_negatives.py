"""BYOL, Barlow Twins and VICReg against their papers' formulas, sample by sample in float64."""

import attrs
import pytest
import torch

from blocks import key, tree
from blocks.objectives.barlow_twins import BarlowTwins, correlation
from blocks.objectives.byol import BYOL, distance
from blocks.objectives.correlation import pairs, squared_norm, standardised
from blocks.objectives.vicreg import VICReg, spread_and_tied
from blocks.optim.schedule import constant
from blocks.random import normal
from tests.objectives.views import OBJECTIVES, assert_close, batch_of, features, gradient, head, model, start

EVERY = pytest.mark.parametrize("name", OBJECTIVES)


def draw(*shape):
    return normal(key(5), shape).double()


def embeddings(objective, params, batch):
    """Each view's embedding [b, E], on its own through trunk and head."""
    views = [view for name in batch if "crops" in name for view in batch[name].unbind(1)]
    return [objective.model(params, view) for view in views]


def byol_reference(objective, params, memory, batch):
    """Equations 2 and 3; of more than two views the mean over pairs, times 2."""
    targets = embeddings(objective, memory["teacher"], {"crops.0": batch["crops.0"]})
    terms = []
    for v, z in enumerate(embeddings(objective, params, batch)):
        q = objective.predictor(params["predictor"], z)
        for a, k in enumerate(targets):
            if a != v:
                lengths = q.norm(dim=1) * k.detach().norm(dim=1)
                terms.append((2 - 2 * (q * k.detach()).sum(1) / lengths).mean())
    return 2 * sum(terms) / len(terms)


def pair_of(a, b, count):
    """Zbontar et al. 2021, equations 1 and 2, entry by entry, with batch norm's eps as in algorithm 1."""
    a, b = ((x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt() for x in (a, b))
    on = off = 0.0
    for i in range(count):
        for j in range(count):
            entry = (a[:, i] * b[:, j]).sum() / len(a)
            on, off = (on + (1 - entry) ** 2, off) if i == j else (on, off + entry**2)
    return on, off


def barlow_reference(objective, params, memory, batch):
    views = embeddings(objective, params, batch)
    terms = []
    for i in range(len(views)):
        for j in range(i + 1, len(views)):
            on, off = pair_of(views[i], views[j], views[0].shape[1])
            terms.append(objective.scale * (on + objective.off_diagonal * off))
    return sum(terms) / len(terms)


def vicreg_reference(objective, params, memory, batch):
    """Bardes et al. 2022, equations 1 to 6; of more than two views, the mean over pairs."""
    views = embeddings(objective, params, batch)
    terms = []
    for i in range(len(views)):
        for j in range(i + 1, len(views)):
            a, b = views[i], views[j]
            s = (a - b).square().sum() / a.numel()
            v = sum(torch.relu(1 - (x.var(0) + 1e-4).sqrt()).mean() for x in (a, b))
            c = sum(off_diagonal(x.T.cov()).square().sum() / x.shape[1] for x in (a, b))
            terms.append(25 * s + 25 * v + 1 * c)
    return sum(terms) / len(terms)


def off_diagonal(matrix):
    return matrix - torch.diag(matrix.diagonal())


REFERENCES = {"byol": byol_reference, "barlow": barlow_reference, "vicreg": vicreg_reference}


def apart(objective, params, memory):
    """A teacher that is not the student."""
    if "teacher" in memory:
        memory["teacher"] = start(objective, 9)[0]
        del memory["teacher"]["predictor"]
    return memory


@EVERY
@pytest.mark.parametrize("small", [0, 2])
def test_loss_and_gradient_are_the_papers(name, small):
    """Two views, and with two small crops more; 8 samples of 6 dimensions, and of 12."""
    objective = OBJECTIVES[name]()
    params, memory = start(objective)
    memory, batch = apart(objective, params, memory), batch_of(small=small)
    loss, _, metrics, grads = gradient(objective, params, memory, batch)
    leaves = tree.map(lambda p: p.clone().requires_grad_(), params)
    expected = REFERENCES[name.split()[0].strip(",")](objective, leaves, memory, batch)
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-11, atol=1e-11)
    flat = tree.flatten(leaves)
    wanted = torch.autograd.grad(expected, list(flat.values()), allow_unused=True, materialize_grads=True)
    assert_close(grads, dict(zip(flat, wanted, strict=True)), rtol=1e-9, atol=1e-10)
    assert 0 < metrics["feature_std"] < 1.2


def test_byol_is_0_for_predictions_along_their_targets_and_8_against_them():
    x = draw(2, 5, 4)
    assert distance(x, 3 * x.flip(0)) == pytest.approx(0, abs=1e-14)
    assert distance(x, -x.flip(0)) == pytest.approx(8)
    assert distance(x[:, :1], x[:, :1].flip(0) * 1e20) == pytest.approx(0, abs=1e-14)


def test_byol_s_gradient_does_not_reach_the_targets():
    objective = OBJECTIVES["byol"]()
    params, memory = start(objective)
    memory["teacher"] = tree.map(lambda p: p.requires_grad_(), memory["teacher"])
    loss, _, _ = objective.loss(params, memory, batch_of(), None)
    assert not loss.requires_grad


@pytest.mark.parametrize("momentum", [0.0, 0.75, 1.0])
def test_byol_s_teacher_keeps_its_momentum_of_itself_after_each_update(momentum):
    objective = BYOL(model(), head(inputs=6), momentum)
    params, memory = start(objective)
    memory = apart(objective, params, memory)
    before, moved = tree.clone(memory["teacher"]), start(objective, 4)[0]
    _, memory, _ = objective.loss(params, memory, batch_of(), None)
    memory, metrics = objective.settle_(moved, memory)
    student = {name: node for name, node in moved.items() if name != "predictor"}
    assert_close(memory["teacher"], tree.map(lambda k, q: momentum * k + (1 - momentum) * q, before, student))
    assert metrics == {}
    assert memory["step"] == 1


def test_byol_s_momentum_may_follow_a_schedule_of_the_updates():
    objective = OBJECTIVES["byol"]()
    params, memory = start(objective)
    told = []
    for skip in (False, True, False):
        _, memory, _ = objective.loss(params, memory, batch_of(), None)
        memory, metrics = objective.settle_(params, memory, torch.tensor(skip))
        told.append(metrics["teacher_momentum"].item())
    assert told == [objective.momentum(step).item() for step in (0, 1, 1)]
    assert memory["step"] == 2


def test_a_constant_schedule_is_the_number():
    batch, ends = batch_of(), []
    for momentum in (0.6, constant(0.6)):
        objective = BYOL(model(), head(inputs=6), momentum)
        params, memory = start(objective)
        _, memory, _ = objective.loss(params, memory, batch, None)
        ends.append(objective.settle_(start(objective, 4)[0], memory, torch.tensor(False))[0])
    assert_close(*ends)


@EVERY
def test_what_is_dropped_follows_from_the_samples_places(name):
    objective = OBJECTIVES[name]()
    params, memory = start(objective)
    batch = batch_of()
    still, again, drawn, other = (objective.loss(params, memory, batch, k)[0] for k in (None, None, key(1), key(2)))
    assert torch.equal(still, again)
    assert len({float(x.detach()) for x in (still, drawn, other)}) == 3
    order = torch.tensor([3, 1, 0, 2, 7, 5, 6, 4])
    mixed = {name: value[order] for name, value in batch.items()}
    torch.testing.assert_close(objective.loss(params, memory, mixed, key(1))[0], drawn)


def test_identical_whitened_views_are_barlow_twins_goal():
    q = torch.linalg.qr(draw(64, 8))[0]
    z = standardised(torch.linalg.qr(q - q.mean(0))[0] * 5)  # uncorrelated columns
    on, off, agreement = correlation(z, z)
    assert on < 1e-6
    assert off < 1e-12
    assert agreement == pytest.approx(1, abs=1e-4)  # batch norm's eps


def test_barlow_twins_tells_the_diagonal_s_mean_and_the_root_mean_square_of_the_rest():
    objective = BarlowTwins(attrs.evolve(model(), head=None))
    params, memory = start(objective)
    _, _, metrics = objective.loss(params, memory, batch_of(), None)
    a, b = map(standardised, features(objective, params))
    entries = a.T @ b / 8
    torch.testing.assert_close(metrics["agreement"], entries.diagonal().mean())
    torch.testing.assert_close(metrics["redundancy"], (off_diagonal(entries).square().sum() / (8 * 7)).sqrt())


def test_two_images_are_enough_for_every_pair_of_views():
    assert pairs(draw(3, 2, 4)) == [(0, 1), (0, 2), (1, 2)]


def test_spread_and_uncorrelated_dimensions_cost_vicreg_nothing_and_a_single_point_all():
    q = torch.linalg.qr(draw(64, 8))[0]
    q = torch.linalg.qr(q - q.mean(0))[0]
    assert spread_and_tied(q * 63**0.5 * 1.1).tolist() == pytest.approx([0, 0], abs=1e-12)
    short, tied = spread_and_tied(q[:1].expand(64, 8))
    assert short == pytest.approx(0.99)  # 1 - the root of eps
    assert tied == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("shape", [(12, 5), (5, 12)])
def test_a_squared_norm_is_the_same_by_dimensions_and_by_samples(shape):
    a, b = draw(2, *shape).requires_grad_().unbind()
    expected = (a.T @ b).square().sum()
    torch.testing.assert_close(squared_norm(a, b), expected)
    torch.testing.assert_close(squared_norm(a, a), (a.T @ a).square().sum())
    for found, wanted in zip(*(torch.autograd.grad(x, (a, b)) for x in (squared_norm(a, b), expected)), strict=True):
        torch.testing.assert_close(found, wanted)


@EVERY
def test_half_precision_gives_about_the_same_loss_in_float32(name):
    objective = OBJECTIVES[name]()
    params, memory = start(objective, dtype=torch.float32, times=1.0)
    batch = batch_of(size=64, dtype=torch.float32)
    half = batch | {"crops.0": batch["crops.0"].bfloat16()}
    exact, _, _ = objective.loss(params, memory, batch, None)
    loss, noted, metrics = objective.loss(tree.cast(params, torch.bfloat16), memory, half, None)
    assert {value.dtype for value in (loss, *metrics.values())} == {torch.float32}
    assert loss == pytest.approx(float(exact), rel=0.05)
    settled, _ = objective.settle_(params, noted)
    assert {n: t.dtype for n, t in tree.flatten(settled).items()} == {
        n: t.dtype for n, t in tree.flatten(memory).items()
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BYOL(model(), head(inputs=6), 1.5), r"momentum 1\.5 is not in \[0, 1\]"),
        (lambda: BarlowTwins(model(), -1.0), r"off_diagonal -1\.0"),
        (lambda: BarlowTwins(model(), scale=0.0), r"scale 0\.0"),
        (lambda: VICReg(model(), covariance=-2.0), r"covariance -2\.0"),
    ],
)
def test_impossible_knobs_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@EVERY
def test_one_view_is_refused(name):
    objective = OBJECTIVES[name]()
    batch = batch_of()
    batch["crops.0"] = batch["crops.0"][:, :1]
    with pytest.raises(ValueError, match="1 view of an image"):
        objective.loss(*start(objective), batch, None)


@pytest.mark.parametrize("make", [BarlowTwins, VICReg])
def test_one_image_has_no_correlation_and_is_refused(make):
    objective = make(attrs.evolve(model(), head=None))
    one = {name: value[:1] for name, value in batch_of().items()}
    with pytest.raises(ValueError, match="1 image in all processes"):
        objective.loss(*start(objective), one, None)
