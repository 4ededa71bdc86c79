"""DINO against sums written from the paper, its teacher and its centre."""

import math

import pytest
import torch

from blocks import key, tree
from blocks.objectives.dino import DINO
from blocks.optim.schedule import cosine, linear
from tests.objectives.clustering_cases import batch_of, descend, dino, model, start, value_and_grads
from tests.train.small_problem import same


def logits(objective, params, crops):
    """[b, V, 3, H, W] -> [V, b, K], crop by crop."""
    return torch.stack([objective.model(params, crop) for crop in crops.unbind(1)])


def papers(objective, params, teacher, centre, batch, teacher_temp=0.04):
    """Algorithm 1 and equation 3: the sum over teacher's and student's views, as a mean over pairs."""
    student = torch.cat([logits(objective, params, batch[name]) for name in ("crops.0", "crops.1")])
    p = (student / 0.1).exp()
    p = p / p.sum(-1, keepdim=True)
    t = ((logits(objective, teacher, batch["crops.0"]) - centre) / teacher_temp).exp()
    t = (t / t.sum(-1, keepdim=True)).detach()
    pairs = [(a, v) for a in range(len(t)) for v in range(len(p)) if v != a]
    return sum(-(t[a] * p[v].log()).sum(-1).mean() for a, v in pairs) / len(pairs), None


@pytest.mark.parametrize("crops", [(2, 3), (1, 2), (3, 1)])
def test_three_steps_equal_the_papers_algorithm_in_float64(crops):
    """Loss, gradients, and after each step teacher and centre; the temperature follows its schedule."""
    objective = dino(momentum=0.7, teacher_temp=linear(0.04, 0.07, 2), centre_momentum=0.8)
    params, memory = start(objective)
    teacher, centre = tree.clone(params), torch.zeros(11, dtype=torch.float64)
    for number in range(3):
        batch = batch_of(4, crops, seed=number)
        temperature = [0.04, 0.055, 0.07][number]
        rest = teacher, centre, batch, temperature
        loss, grads, _ = value_and_grads(lambda p, rest=rest: papers(objective, p, *rest), params)
        mean = logits(objective, teacher, batch["crops.0"]).mean((0, 1))
        found, params, memory = descend(objective, params, memory, batch)
        assert found["metrics"]["teacher_temp"] == pytest.approx(temperature)
        teacher = tree.map(lambda old, new: 0.7 * old + 0.3 * new, teacher, params)
        centre = 0.8 * centre + 0.2 * mean
        expected = {"loss": loss, "grads": grads, "teacher": teacher, "centre": centre}
        ours = {**found, "teacher": memory["teacher"], "centre": memory["centre"]}
        for name, value in tree.flatten(expected).items():
            torch.testing.assert_close(tree.flatten(ours)[name], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_a_teacher_of_momentum_0_is_the_student_and_of_1_stays(momentum):
    objective = dino(momentum=momentum)
    params, memory = start(objective)
    before = tree.clone(params)
    _, params, memory = descend(objective, params, memory, batch_of())
    assert not same(params, before)
    assert same(memory["teacher"], before if momentum else params)


def test_the_teachers_momentum_follows_its_schedule_from_the_first_step():
    objective = dino(momentum=cosine(0.5, 1.0, 2))
    params, memory = start(objective)
    found = []
    for number in range(3):
        step, params, memory = descend(objective, params, memory, batch_of(seed=number))
        found.append(step["settled"]["teacher_momentum"].item())
    assert found == pytest.approx([0.5, 0.75, 1.0])


def test_the_centre_of_two_micro_batches_is_the_whole_batches():
    objective = dino()
    params, memory = start(objective)
    whole, halves = batch_of(8), memory
    for half in (slice(0, 4), slice(4, 8)):
        _, halves, _ = objective.loss(params, halves, {name: value[half] for name, value in whole.items()}, None)
    _, noted, _ = objective.loss(params, memory, whole, None)
    centres = []
    for notes in (noted, halves):
        copied = tree.clone(notes)
        centres.append(objective.settle_(params, copied)[0]["centre"])
    assert centres[0].norm() > 0.01
    torch.testing.assert_close(*centres, rtol=1e-12, atol=1e-14)


def test_the_loss_is_the_teachers_entropy_plus_kl_and_kl_is_zero_where_both_agree():
    """The student's temperature for both, no centre, momentum 0, and images without difference between crops."""
    objective = dino(teacher_temp=0.1)
    params, memory = start(objective)
    batch = batch_of(crops=(2,))
    batch["crops.0"] = batch["crops.0"][:, :1].expand(-1, 2, -1, -1, -1)
    loss, _, metrics = objective.loss(params, memory, batch, None)
    assert metrics["kl"].abs() < 1e-12
    assert loss > 0.01
    assert math.isclose(metrics["teacher_entropy"] * math.log(11), loss, rel_tol=1e-9)


def test_a_collapse_onto_one_logit_shows():
    """Large biases before the bottleneck: all images have one direction."""
    objective = dino()
    params, memory = start(objective)
    _, _, healthy = objective.loss(params, memory, batch_of(), None)
    params["head"]["layers"]["2"]["bias"] += 1e6
    memory = objective.remember(params)
    _, _, metrics = objective.loss(params, memory, batch_of(), None)
    assert metrics["feature_std"] < objective.alarms["feature_std"] < healthy["feature_std"]
    assert metrics["kl"] + metrics["teacher_entropy"] < math.inf


def test_a_skipped_step_leaves_teacher_centre_and_count():
    objective = dino(momentum=0.5)
    params, memory = start(objective)
    memory["centre"] += 1  # a skipped mean is 0, towards which it must not move either
    _, noted, _ = objective.loss(params, memory, batch_of(), None)
    before = tree.clone(memory)
    moved = tree.map(lambda p: p + 1, params)
    after, _ = objective.settle_(moved, noted, torch.tensor(True))
    assert same(after, before)
    after, _ = objective.settle_(moved, objective.loss(params, memory, batch_of(), None)[1], torch.tensor(False))
    assert not any(same(after[name], before[name]) for name in ("teacher", "centre", "step"))


def test_the_teacher_sees_the_first_size_and_drops_nothing():
    objective = dino(drop=0.9)
    params, memory = start(objective)
    batch = batch_of()
    notes = [objective.loss(params, memory, batch, k)[1]["notes"]["centre"] for k in (None, key(0), key(1))]
    assert torch.equal(notes[0], notes[1])
    assert torch.equal(notes[0], notes[2])
    other = {**batch, "crops.1": 2 * batch["crops.1"]}
    assert torch.equal(objective.loss(params, memory, other, None)[1]["notes"]["centre"], notes[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_makes_float32_losses_that_are_near(dtype):
    objective = dino()
    params, memory = start(objective, scale=1.0)
    loss = objective.loss(params, memory, batch_of(), None)[0]
    found, noted, _ = objective.loss(tree.cast(params, dtype), memory, batch_of(dtype=dtype), None)
    assert found.dtype == noted["notes"]["centre"].dtype == torch.float32
    torch.testing.assert_close(found.double(), loss, rtol=0.1, atol=0)


def test_mistakes_are_named_with_the_way_out():
    with pytest.raises(ValueError, match=r"head None has no out_features .* give the model a DinoHead"):
        DINO(model(None))
    with pytest.raises(ValueError, match=r"momentum 1.5 is not in \[0, 1\]"):
        dino(momentum=1.5)
    with pytest.raises(ValueError, match=r"teacher_temp 0.0 is not a temperature"):
        dino(teacher_temp=0.0)
    with pytest.raises(ValueError, match=r"student_temp .* is not a temperature"):
        dino(student_temp=linear(0.1, 0.2, 3))
    objective = dino()
    params, memory = start(objective)
    with pytest.raises(ValueError, match="1 view has no other"):
        objective.loss(params, memory, batch_of(crops=(1,)), None)
