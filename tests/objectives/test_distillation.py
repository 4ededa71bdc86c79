"""Distillation against the sums of DeiT's equations 2 and 3."""

import attrs
import pytest
import torch
from torch import nn

from blocks import convit, key, tree, vit
from blocks.block import Block
from blocks.interop.from_module import from_module
from blocks.objectives.distillation import Distillation, hard, soft
from blocks.objectives.supervised import Supervised
from blocks.random import normal
from tests.objectives.table import TINY, batch_of, conv_teacher, student, teacher

STILL = {"drop_path_rate": 0.0, "proj_drop_rate": 0.0, "drop_rate": 0.0}


@attrs.frozen
class Constant(Block):
    """Images -> their mean colour through a matrix: a teacher whose params are easily told."""

    classes: int = 5

    def init(self, key):
        return {"weight": normal(key, (3, self.classes))}

    def __call__(self, params, x, *, key=None):
        assert key is None
        return x.mean((2, 3)) @ params["weight"]


def start(*options, model=None, **knobs):
    """An objective, its start, a batch, and what the sums below need: both heads' and the teacher's logits."""
    objective = Distillation(model or student(**STILL), *teacher(), *options, **knobs)
    params, memory = objective.init(key(0))
    params = tree.map(lambda p: 5 * p, params)
    batch = batch_of()
    heads = objective.model.logits(params, batch["images"]) if model is None else (model(params, batch["images"]),) * 2
    return objective, params, memory, batch, heads, objective.teacher(memory["teacher"], batch["images"])


def cross_entropy(logits, targets):
    """-sum_c target_c log p_c, mean over samples, sample by sample."""
    rows = [-(t * (y - y.exp().sum().log())).sum() for y, t in zip(logits, targets, strict=True)]
    return sum(rows) / len(rows)


def divergence(student, teacher, tau):
    """tau^2 sum_c q_c log(q_c / p_c) at temperature tau, mean over samples."""
    rows = []
    for y, t in zip(student, teacher, strict=True):
        p, q = ((v / tau).exp() / (v / tau).exp().sum() for v in (y, t))
        rows.append(tau**2 * sum(q[c] * (q[c] / p[c]).log() for c in range(len(q))))
    return sum(rows) / len(rows)


def one_hot(labels):
    return torch.eye(5)[labels]


def test_hard_distillation_is_half_the_labels_and_half_the_teacher_s_choices():
    objective, params, memory, batch, (x, y), t = start()
    loss, after, _ = objective.loss(params, memory, batch, None)
    expected = cross_entropy(x, one_hot(batch["labels"])) / 2 + cross_entropy(y, one_hot(t.argmax(1))) / 2
    torch.testing.assert_close(loss, expected)
    assert after is memory


@pytest.mark.parametrize(("alpha", "tau"), [(0.1, 3.0), (0.5, 1.0), (0.9, 0.5)])
def test_soft_distillation_adds_the_divergence_from_the_teacher(alpha, tau):
    objective, params, memory, batch, (x, y), t = start("soft", alpha, tau)
    expected = (1 - alpha) * cross_entropy(x, one_hot(batch["labels"])) + alpha * divergence(y, t, tau)
    torch.testing.assert_close(objective.loss(params, memory, batch, None)[0], expected)


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_labels_alone_are_smoothed_and_may_be_mixed(kind):
    objective, params, memory, batch, (x, y), t = start(kind, label_smoothing=0.1)
    mixed = torch.rand(8, 5, generator=torch.Generator().manual_seed(0)).softmax(-1)
    loss, _, metrics = objective.loss(params, memory, {**batch, "labels": mixed}, None)
    teacher_loss = divergence(y, t, 1.0) if kind == "soft" else cross_entropy(y, one_hot(t.argmax(1)))
    torch.testing.assert_close(loss, (cross_entropy(x, 0.9 * mixed + 0.1 / 5) + teacher_loss) / 2)
    assert metrics.keys() == {"agreement"}


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_a_student_with_one_head_answers_both_with_it(kind):
    model = vit(**TINY)
    objective, params, memory, batch, (x, _), t = start(kind, 0.3, model=model)
    teacher_loss = divergence(x, t, 1.0) if kind == "soft" else cross_entropy(x, one_hot(t.argmax(1)))
    expected = 0.7 * cross_entropy(x, one_hot(batch["labels"])) + 0.3 * teacher_loss
    torch.testing.assert_close(objective.loss(params, memory, batch, None)[0], expected)


def test_without_a_share_for_the_teacher_it_is_the_supervised_loss():
    model = vit(**TINY)
    objective, params, memory, batch, _, _ = start(alpha=0.0, model=model, label_smoothing=0.1)
    loss, _, metrics = objective.loss(params, memory, batch, None)
    expected, _, supervised = Supervised(model, 0.1).loss(params, {}, batch, None)
    torch.testing.assert_close(loss, expected)
    assert metrics["top1"] == supervised["top1"]


def test_each_head_learns_from_its_own_source():
    for alpha, silent in ((0.0, "head_dist"), (1.0, "head")):
        objective, params, memory, batch, _, _ = start(alpha=alpha)
        leaves = tree.map(lambda p: p.requires_grad_(), params)
        wanted = [leaves["head"]["weight"], leaves["head_dist"]["weight"]]
        grads = torch.autograd.grad(objective.loss(leaves, memory, batch, None)[0], wanted)
        assert [bool(g.any()) for g in grads] == [silent != "head", silent != "head_dist"]


def test_metrics_count_hits_and_agreement():
    objective, params, memory, batch, (x, y), t = start()
    _, _, metrics = objective.loss(params, memory, batch, None)
    labels = batch["labels"]
    assert metrics["top1"] == ((x + y).argmax(1) == labels).float().mean()
    assert metrics["teacher_top1"] == (t.argmax(1) == labels).float().mean()
    assert metrics["agreement"] == (y.argmax(1) == t.argmax(1)).float().mean()
    assert objective.model(params, batch["images"]).argmax(1).equal((x + y).argmax(1))


def test_the_teacher_has_no_graph_no_key_and_its_params_are_the_memory():
    objective, params, memory, batch, _, _ = start()
    trained = torch.ones(3, 5).requires_grad_()
    objective = attrs.evolve(objective, teacher=Constant(), teacher_params={"weight": trained})
    _, memory = objective.init(key(0))
    assert not memory["teacher"]["weight"].requires_grad
    assert torch.equal(memory["teacher"]["weight"], torch.ones(3, 5))
    memory["teacher"]["weight"].add_(1)
    assert torch.equal(objective.teacher_params["weight"], torch.ones(3, 5))  # a copy
    leaf = normal(key(2), (3, 5)).requires_grad_()
    loss, after, _ = objective.loss(params, {"teacher": {"weight": leaf}}, batch, key(1))
    assert after["teacher"]["weight"] is leaf
    assert not loss.requires_grad
    other, _, _ = objective.loss(params, {"teacher": {"weight": -leaf}}, batch, key(1))
    assert loss != other


def test_the_memory_can_be_shaped_without_being_computed():
    _, memory = start()[0].init(key(0, device="meta"))
    assert all(t.device.type == "meta" for t in tree.leaves(memory))


def test_a_teacher_of_another_type_computes_in_its_own():
    """A float32 teacher beside a bfloat16 student sees the student's images, and no more is rounded."""
    objective, params, memory, batch, _, _ = start("soft")
    images = batch["images"].bfloat16()
    expected = objective.teacher(memory["teacher"], images.float())
    heads = [y.float() for y in objective.model.logits(tree.cast(params, torch.bfloat16), images)]
    loss, _, _ = objective.loss(tree.cast(params, torch.bfloat16), memory, {**batch, "images": images}, None)
    labels = cross_entropy(heads[0], one_hot(batch["labels"]))
    torch.testing.assert_close(loss, (labels + divergence(heads[1], expected, 1.0)) / 2)
    half = {"teacher": tree.cast(memory["teacher"], torch.bfloat16)}
    assert objective.loss(params, half, batch, None)[0].dtype == torch.float32


def test_a_module_teaches_as_it_evaluates_and_stays_as_it_is():
    block, params = conv_teacher()
    objective = Distillation(vit(**TINY), block, params, "soft", alpha=1.0)
    student_params, memory = objective.init(key(0))
    before, batch = tree.clone(memory), batch_of()
    loss, after, _ = objective.loss(student_params, memory, batch, key(1))
    logits = objective.model(student_params, batch["images"])
    torch.testing.assert_close(loss, divergence(logits, block(params, batch["images"]), 1.0))
    assert all(torch.equal(t, tree.flatten(after)[n]) for n, t in tree.flatten(before).items())


def test_a_distilled_model_teaches_with_the_mean_of_its_heads():
    model = student()
    model_params = tree.map(lambda p: 5 * p, model.init(key(3)))
    objective = Distillation(vit(**TINY), model, model_params, "soft", alpha=1.0)
    params, memory = objective.init(key(0))
    images = batch_of()["images"]
    expected = divergence(objective.model(params, images), sum(model.logits(model_params, images)) / 2, 1.0)
    torch.testing.assert_close(objective.loss(params, memory, batch_of(), None)[0], expected)


def test_a_student_equal_to_its_teacher_has_no_divergence():
    logits = normal(key(0), (6, 5))
    for tau in (0.5, 1.0, 4.0):
        torch.testing.assert_close(soft(logits, logits + 3, tau), torch.tensor(0.0), rtol=0, atol=1e-6)
    assert soft(logits, -logits, 1.0) > 0
    assert hard(100 * logits, logits, 1.0) < 1e-3


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_it_draws_if_the_student_does(rate):
    model = convit(**TINY, local_up_to_layer=1, drop_path_rate=rate)
    assert Distillation(model, *teacher()).draws == (rate > 0)
    assert Distillation(lambda params, images, key: images, *teacher()).draws  # it does not say, so it gets keys


def test_a_teacher_of_other_classes_is_an_error():
    wrong = Constant(4)
    for model, params, found in (
        (wrong, wrong.init(key(0)), r"\[8, 4\]"),
        (*from_module(nn.Flatten()), r"\[8, 192\]"),
        (lambda params, x: (x, x), {}, "a tuple"),
    ):
        objective = Distillation(vit(**TINY), model, params)
        student_params, memory = objective.init(key(0))
        with pytest.raises(ValueError, match=rf"the teacher gives {found}, the student logits \[8, 5\]"):
            objective.loss(student_params, memory, batch_of(), None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "warm"}, "kind 'warm' is not known; use soft or hard"),
        ({"alpha": 1.5}, r"alpha 1\.5 is not in \[0, 1\]"),
        ({"kind": "soft", "tau": 0.0}, r"tau 0\.0 is not a temperature"),
        ({"tau": 3.0}, r'tau 3\.0 has no effect on kind "hard"'),
        ({"label_smoothing": 1.0}, r"label_smoothing 1\.0 is not in"),
    ],
)
def test_what_cannot_be_is_refused_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        Distillation(vit(**TINY), *teacher(), **options)
