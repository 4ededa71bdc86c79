"""Accuracy over a data set in one process; `test_resume` has the two-process half."""

import pytest
import torch
import torch.nn.functional as F

from blocks import random
from blocks.train.distributed import Processes
from blocks.train.evaluate import evaluate
from tests.train.tiny import Classifier, ValData

HERE = Processes()


def logits_and_labels(model, params, data):
    batches = list(data)
    images, labels = (torch.cat([batch[name] for batch in batches]) for name in ("images", "labels"))
    return model(params, images), labels


def test_batches_of_unequal_size_give_the_means_over_images():
    model, data = Classifier(), ValData(count=10)  # batches of 4, 4, 2
    params = model.init(random.key(0))
    logits, labels = logits_and_labels(model, params, data)
    rank = (logits > logits.gather(1, labels[:, None])).sum(1)
    found = evaluate(model, params, data, HERE)
    assert found["images"] == 10
    assert found["unreadable"] == 0
    assert found["top1"] == (rank < 1).double().mean().item()
    assert found["top5"] == (rank < 5).double().mean().item()
    assert found["top5"] != found["top1"]
    assert found["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-6)


def test_with_fewer_than_five_classes_there_is_no_top5():
    model = Classifier(classes=3)
    data = [{"images": torch.zeros(2, 3, 4, 4), "labels": torch.tensor([0, 2])}]
    assert "top5" not in evaluate(model, model.init(random.key(0)), data, HERE)


def test_evaluation_records_no_gradient_and_leaves_the_params():
    model = Classifier()
    params = model.init(random.key(0))
    before = params["head"]["weight"].clone()
    params["head"]["weight"].requires_grad_()
    evaluate(model, params, ValData(), HERE)
    assert params["head"]["weight"].grad is None
    assert torch.equal(params["head"]["weight"], before)


def test_bfloat16_computes_in_bfloat16():
    model, seen = Classifier(), []

    class Spy:
        def __call__(self, params, images):
            seen.append((params["head"]["weight"].dtype, images.dtype))
            return model(params, images)

    params = model.init(random.key(0))
    exact = evaluate(model, params, ValData(), HERE)["loss"]
    assert evaluate(Spy(), params, ValData(), HERE, precision="bfloat16")["loss"] == pytest.approx(exact, rel=0.02)
    assert set(seen) == {(torch.bfloat16, torch.bfloat16)}


def test_an_unknown_precision_and_an_empty_data_set_are_refused():
    model = Classifier()
    params = model.init(random.key(0))
    with pytest.raises(ValueError, match="float12"):
        evaluate(model, params, ValData(), HERE, precision="float12")
    with pytest.raises(ValueError, match="no image to evaluate on"):
        evaluate(model, params, [], HERE)


def test_more_unreadable_images_than_the_loader_bears_are_an_error():
    model, data = Classifier(), ValData()
    params = model.init(random.key(0))
    data.skipped, data.most_unreadable = {"a": "torn", "b": "torn"}, 2
    assert evaluate(model, params, data, HERE)["unreadable"] == 2
    data.most_unreadable = 1
    with pytest.raises(ValueError, match="2 images are unreadable, over all processes, and the loader bears 1 of them"):
        evaluate(model, params, data, HERE)
