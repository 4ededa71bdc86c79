"""Accuracy over a data set in one process; `test_resume` has the two-process half."""

import pytest
import torch
import torch.nn.functional as F

from blocks import ProjectionMlp, random, tree, trunk_from_module, vit, with_statistics
from blocks.layers.heads import LinearHead
from blocks.probe.knn_monitor import KnnMonitor
from blocks.train.distributed import Processes
from blocks.train.evaluate import check_apart, evaluate
from tests.interop.modules import images, small
from tests.train.tiny import Classifier, ValData
from tests.two_processes import in_two

HERE = Processes()


def logits_and_labels(model, params, data):
    batches = list(data)
    images, labels = (torch.cat([batch[name] for batch in batches]) for name in ("images", "labels"))
    return model(params, images), labels


def test_batches_of_unequal_size_give_the_means_over_images():
    model, data = Classifier(), ValData(count=10)  # batches of 4, 4, 2
    params = model.init(random.key(2))
    logits, labels = logits_and_labels(model, params, data)
    rank = (logits > logits.gather(1, labels[:, None])).sum(1)
    found = evaluate(model, params, data, HERE)
    assert found["images"] == 10
    assert found["unreadable"] == 0
    assert found["top1"] == (rank < 1).double().mean().item()
    assert found["top5"] == (rank < 5).double().mean().item()
    assert rank.bincount(minlength=6).tolist() == [3, 0, 2, 1, 4, 0]  # one place more or less is another share
    assert found["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-6)


def test_what_is_summed_over_batches_is_summed_in_float64():
    model = Classifier()
    params = tree.cast(model.init(random.key(0)), torch.float64)
    data = [batch | {"images": batch["images"].double()} for batch in ValData(count=24)]
    logits, labels = logits_and_labels(model, params, data)
    assert evaluate(model, params, data, HERE)["loss"] == pytest.approx(
        F.cross_entropy(logits, labels).item(), rel=1e-14
    )


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


class Uneven:
    """Nine images, of which the first of two processes has five, in two batches, and the second four, in one."""

    def __init__(self, processes):
        parts = [[slice(0, 4), slice(4, 5)], [slice(5, 9)]]
        self.mine = [part for share in parts for part in share] if processes.world_size == 1 else parts[processes.rank]

    def __iter__(self):
        x, numbers = images(9), torch.arange(9)
        return ({"images": x[part], "labels": numbers[part] % 3, "index": numbers[part]} for part in self.mine)


def of_a_module(processes):
    """What each evaluation says of a module trunk: numbers with statistics; without, whether it is refused."""
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the module's weights
        model, data = trunk_from_module(small(), 4, LinearHead(4, 3)), Uneven(processes)
    monitor, params = KnnMonitor(model, data, data, processes, k=(3,)), model.init(random.key(0))
    found = with_statistics(model, params, [images().chunk(processes.world_size)[processes.rank]])
    scores = {**evaluate(model, found, data, processes), **monitor(found)}
    if processes.world_size > 1:
        for wrong in (lambda: evaluate(model, params, data, processes), lambda: monitor(params)):
            with pytest.raises(ValueError, match=r"all 2 processes' batches, .* as with_statistics finds them"):
                wrong()
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in scores.items()}


def beside_another(rank):
    return of_a_module(Processes(rank, 2, rank))


def test_two_processes_with_unequally_many_batches_evaluate_a_module_trunk_by_its_statistics_alone(tmp_path):
    """By the batch one process would wait for the other, which is at its sums already."""
    one = of_a_module(HERE)
    for found in in_two(beside_another, tmp_path):
        assert found.keys() == one.keys()
        for name, value in one.items():
            torch.testing.assert_close(found[name], value, msg=lambda text, name=name: f"{name}: {text}")


def test_a_head_with_batch_norm_is_evaluated_among_processes_where_params_hold_its_moments():
    model = vit(img_size=8, patch_size=4, embed_dim=8, depth=1, num_heads=2, head=ProjectionMlp(8, 8, 3, norm="batch"))
    params = model.init(random.key(0))
    with pytest.raises(ValueError, match="batch norm of the Model takes its moments from all 2 processes' batches"):
        check_apart(model, params, 2)
    with pytest.raises(ValueError, match="batch norm of the ProjectionMlp"):
        check_apart(model.head, params["head"], 2)
    running = tree.flatten(model.head.running())
    check_apart(model, tree.unflatten(tree.flatten(params) | {f"head.{n}": leaf for n, leaf in running.items()}), 2)
    check_apart(model, params, 1)
