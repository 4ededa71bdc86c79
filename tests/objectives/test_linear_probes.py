"""Several linear classifiers on one frozen trunk."""

import pytest
import torch

from blocks import tree
from blocks.layers.linear import Linear
from blocks.objectives.linear_probes import HEADS_ALONE, LinearProbes
from blocks.objectives.supervised import Supervised
from blocks.optim.sgd import sgd
from blocks.probe.probe_accuracy import ProbeAccuracy
from blocks.random import key, normal
from blocks.train.evaluate import evaluate
from blocks.train.step import init_state, make_step
from blocks.trunks.distilled import distilled
from tests.probe.small import CLASSES, HERE, Images, trunk

RATES = (0.03, 0.3, 3.0)


def batch(seed):
    data = Images(8, seed=seed)
    return {"images": data.images, "labels": data.labels, "index": torch.arange(8)}


def train(objective, rates, params, frozen=HEADS_ALONE, names="heads.{}.*", count=5, **knobs):
    scales = {names.format(k): rate for k, rate in enumerate(rates)}
    optimizer = sgd(1.0, momentum=0.9, lr_scales=scales)
    state = init_state(objective, optimizer, key(0), frozen=frozen, params=params)
    step = make_step(objective, optimizer, frozen=frozen, **knobs)
    for number in range(count):
        state, metrics = step(state, batch(number))
    return state, metrics


def trained_trunk():
    """Params far from their start, so that features differ."""
    params = trunk().init(key(0))
    return tree.map(lambda p: p + 0.1 * normal(key(1), tuple(p.shape)), params)


def test_many_heads_learn_what_each_would_learn_alone():
    model = trunk()
    many = LinearProbes(model, CLASSES, heads=3)
    state, metrics = train(many, RATES, many.with_heads(trained_trunk()))
    for k, rate in enumerate(RATES):
        one = LinearProbes(model, CLASSES)
        alone, expected = train(one, (rate,), one.with_heads(trained_trunk()))
        for name in ("weight", "bias"):
            assert torch.equal(state.params["heads"][str(k)][name], alone.params["heads"]["0"][name])
        assert metrics[f"top1_{k}"] == expected["top1_0"]


def test_one_head_is_supervised_training_of_a_linear_head_with_the_trunk_frozen():
    probes = LinearProbes(trunk(), CLASSES)
    state, metrics = train(probes, (0.3,), probes.with_heads(trained_trunk()))
    plain = Supervised(trunk(head=Linear(8, CLASSES, std=0)))
    params = {**trained_trunk(), "head": {"weight": torch.zeros(CLASSES, 8), "bias": torch.zeros(CLASSES)}}
    alone, expected = train(plain, (0.3,), params, frozen=("*", "!head.*"), names="head.*")
    for name in ("weight", "bias"):
        torch.testing.assert_close(state.params["heads"]["0"][name], alone.params["head"][name])
    torch.testing.assert_close(metrics["loss"], expected["loss"])


def test_the_trunk_is_left_as_it_is_and_gets_no_gradient():
    probes = LinearProbes(trunk(proj_drop_rate=0.9), CLASSES)
    params = probes.with_heads(trained_trunk())
    state, _ = train(probes, (0.3,), params)
    for name, leaf in tree.flatten(params).items():
        assert torch.equal(tree.flatten(state.params)[name], leaf) != name.startswith("heads.")
    leaves = tree.map(lambda p: p.requires_grad_(), tree.clone(params))
    loss, _, _ = probes.loss(leaves, {}, batch(0), None)
    wanted = tree.flatten(leaves)
    grads = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    assert {n for n, g in zip(wanted, grads, strict=True) if g is not None} == {"heads.0.weight", "heads.0.bias"}


def test_features_are_standardised_as_by_a_batch_norm_that_saw_all_of_them():
    probes = LinearProbes(trunk(), CLASSES)
    data, params = Images(20), probes.with_heads(trained_trunk())
    values = probes.model.features(params, data.images)
    params = probes.standardised(params, values)
    params["heads"]["0"]["weight"] = torch.eye(8)[:CLASSES]  # shows the first features
    norm = torch.nn.BatchNorm1d(8, eps=1e-6, affine=False)
    torch.testing.assert_close(probes.logits(params, data.images)[0], norm(values)[:, :CLASSES])


def test_a_chosen_head_becomes_an_ordinary_model_s():
    probes = LinearProbes(trunk(), CLASSES, heads=3)
    params = probes.with_heads(trained_trunk())
    params = probes.standardised(params, probes.model.features(params, Images(20).images))
    state, _ = train(probes, RATES, params)
    model, images = trunk(num_classes=CLASSES), Images(6).images
    chosen = tree.like(model.init(key(0)), tree.flatten(probes.classifier(state.params, 2)))
    torch.testing.assert_close(model(chosen, images), probes.logits(state.params, images)[2], atol=1e-5, rtol=1e-5)


def test_the_classifier_of_a_distilled_model_fills_both_heads():
    bare, model = distilled(trunk()), distilled(trunk(num_classes=CLASSES))
    probes = LinearProbes(bare, CLASSES, heads=2)
    params, images = probes.with_heads(bare.init(key(1))), Images(4).images
    params["heads"]["1"] = {"weight": normal(key(2), (CLASSES, 8)), "bias": normal(key(3), (CLASSES,))}
    params["features"] = {"mean": normal(key(4), (8,)), "std": 1 + normal(key(5), (8,)).abs()}
    chosen = tree.like(model.init(key(0)), tree.flatten(probes.classifier(params, 1)))
    torch.testing.assert_close(model(chosen, images), probes.logits(params, images)[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_in_a_half_precision_heads_still_score_in_float32(precision):
    probes = LinearProbes(trunk(), CLASSES, heads=3)
    dtype = getattr(torch, precision)
    params = tree.cast(probes.with_heads(trained_trunk()), dtype)
    assert probes.logits(params, Images(4).images.to(dtype)).dtype == torch.float32


def test_a_rate_that_is_far_too_high_does_not_stop_the_others():
    probes = LinearProbes(trunk(), CLASSES, heads=2)
    state, metrics = train(probes, (1e9, 0.3), probes.with_heads(trained_trunk()), precision="bfloat16")
    assert state.skipped == 0
    assert metrics["loss"].isfinite()


def test_evaluation_tells_every_head_s_accuracy_and_the_best():
    probes = LinearProbes(trunk(), CLASSES, heads=3)
    state, _ = train(probes, (1e-9, 0.3, 0.03), probes.with_heads(trained_trunk()))
    data = Images(10, seed=5)
    found = ProbeAccuracy(probes, data, HERE)(state.params)
    model = trunk(num_classes=CLASSES)
    each = [evaluate(model, probes.classifier(state.params, k), data, HERE)["top1"] for k in range(3)]
    assert [found[f"top1_{k}"] for k in range(3)] == each
    assert found["top1"] == max(each)
    assert each[int(found["best_head"])] == max(each)
    assert found["images"] == 10
    half = ProbeAccuracy(probes, data, HERE, torch.bfloat16)(state.params)
    assert abs(half["top1"] - found["top1"]) <= 0.2


def test_what_cannot_be_is_refused_at_construction():
    with pytest.raises(ValueError, match="has a head of its own; make it with num_classes=0"):
        LinearProbes(trunk(num_classes=3), CLASSES)
    with pytest.raises(ValueError, match="object does not say how wide its features are; give embed_dim"):
        LinearProbes(object(), CLASSES)
    with pytest.raises(ValueError, match="heads 0: a classifier for each rate"):
        LinearProbes(trunk(), CLASSES, heads=0)
    probes = LinearProbes(trunk(), CLASSES)
    with pytest.raises(ValueError, match="no image"):
        ProbeAccuracy(probes, [], HERE)(probes.with_heads(trained_trunk()))
