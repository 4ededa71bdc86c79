"""The supervised objective against torch.nn.functional.cross_entropy."""

import attrs
import pytest
import torch
import torch.nn.functional as F

from blocks import Dropout, vit
from blocks.block import Block
from blocks.objectives.supervised import Supervised
from blocks.random import fold_in, key, uniform


@attrs.frozen
class Classifier(Block):
    """Logits = images @ weight; with a key each sample's logits are shifted by a number of its own."""

    classes: int = 5

    def init(self, key):
        return {"weight": uniform(key, (12, self.classes))}

    def __call__(self, params, x, *, key=None):
        logits = x.flatten(1) @ params["weight"]
        return logits if key is None else logits * uniform(key, (self.classes,))


def batch_of(size=6, classes=5):
    g = torch.Generator().manual_seed(0)
    images = torch.randn(size, 3, 2, 2, generator=g)
    return {"images": images, "labels": torch.randint(0, classes, (size,), generator=g)}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_integer_labels_give_the_smoothed_cross_entropy_and_top1(smoothing):
    objective, batch = Supervised(Classifier(), smoothing), batch_of()
    params, memory = objective.init(key(0))
    loss, after, metrics = objective.loss(params, memory, batch, None)
    logits = batch["images"].flatten(1) @ params["weight"]
    expected = -(F.log_softmax(logits, -1) * smoothed(F.one_hot(batch["labels"], 5).float(), smoothing)).sum(-1).mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(loss, F.cross_entropy(logits, batch["labels"], label_smoothing=smoothing))
    assert metrics["top1"] == (logits.argmax(1) == batch["labels"]).float().mean()
    assert memory == after == {}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_soft_labels_give_the_expected_cross_entropy_and_no_top1(smoothing):
    objective, batch = Supervised(Classifier(), smoothing), batch_of()
    params, _ = objective.init(key(0))
    soft = torch.rand(6, 5, generator=torch.Generator().manual_seed(1)).softmax(-1)
    loss, _, metrics = objective.loss(params, {}, {**batch, "labels": soft}, None)
    logits = batch["images"].flatten(1) @ params["weight"]
    torch.testing.assert_close(loss, -(F.log_softmax(logits, -1) * smoothed(soft, smoothing)).sum(-1).mean())
    assert metrics == {}


def smoothed(targets, smoothing):
    return (1 - smoothing) * targets + smoothing / targets.shape[-1]


def test_half_precision_logits_meet_the_targets_in_float32():
    objective, batch = Supervised(Classifier()), batch_of()
    batch["images"] = batch["images"].bfloat16()
    params = {"weight": objective.init(key(0))[0]["weight"].bfloat16()}
    loss, _, _ = objective.loss(params, {}, batch, None)
    assert loss.dtype == torch.float32
    logits = batch["images"].flatten(1) @ params["weight"]
    assert torch.equal(loss, F.cross_entropy(logits.float(), batch["labels"]))


def test_what_a_sample_draws_follows_from_its_index_alone():
    objective, batch = Supervised(Classifier()), batch_of()
    params, _ = objective.init(key(0))
    whole, _, _ = objective.loss(params, {}, batch, key(1))
    halves = [
        {"images": batch["images"][s], "labels": batch["labels"][s], "index": torch.arange(6)[s]}
        for s in (slice(0, 3), slice(3, 6))
    ]
    parts = [objective.loss(params, {}, half, key(1))[0] for half in halves]
    torch.testing.assert_close(whole, sum(parts) / 2)
    assert whole != objective.loss(params, {}, batch, None)[0]
    logits = batch["images"].flatten(1) @ params["weight"] * uniform(fold_in(key(1), torch.arange(6)), (5,))
    torch.testing.assert_close(whole, F.cross_entropy(logits, batch["labels"]))


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_it_draws_if_the_model_says_that_it_is_random(rate):
    model = vit(img_size=8, patch_size=4, num_classes=5, embed_dim=8, depth=2, num_heads=2, drop_path_rate=rate)
    assert Supervised(model).draws == (rate > 0)
    assert Supervised(Dropout(rate)).draws == (rate > 0)


def test_a_model_that_does_not_say_is_given_keys():
    assert Supervised(Classifier()).draws
    assert Supervised(lambda params, images, key: images).draws  # nor has a block's own answer


def test_a_batch_without_labels_is_refused():
    with pytest.raises(ValueError, match="a batch of images has no labels to learn; give an index with labels"):
        Supervised(Classifier()).loss({}, {}, {"images": batch_of()["images"]}, None)


def test_smoothing_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"label_smoothing 1\.5 is not in"):
        Supervised(Classifier(), 1.5)
