"""What is told of a run's numbers."""

import attrs
import pytest
import torch

from blocks.report import compared
from blocks.report.headline import lead
from blocks.report.labelled import by_loss, confused, said
from blocks.report.material import Material
from blocks.report.numbers import counted, duration, metric, shown, spoken
from blocks.report.outcome import best, course, metrics_table, score_name, warnings
from blocks.runs.run import Run
from tests.report.tiny_runs import record


def test_the_best_epoch_is_the_earliest_of_equal_ones_with_most_accuracy_or_least_loss():
    epochs = [{"epoch": e, "val_top1": a, "val_loss": b, "train_feature_std": 1.0} for e, a, b in
              ((1, 0.5, 2.0), (2, 0.7, None), (3, 0.7, 1.0), (4, 0.6, 1.0))]  # fmt: skip
    assert best(epochs, "val_top1")["epoch"] == 2
    assert best(epochs, "val_loss")["epoch"] == 3
    assert best(epochs, "train_feature_std") is None  # neither more nor less of it is better
    assert best(epochs, "val_top5") is None


def test_a_run_is_judged_by_validation_accuracy_before_neighbours():
    assert score_name([record(1)]) == "val_top1"
    assert score_name([record(1, "knn20")]) == "val_knn20"
    assert score_name([{"epoch": 1, "train_loss": 1.0}]) is None
    assert score_name([]) is None


def test_the_table_holds_every_metric_and_nothing_else():
    rows = metrics_table([record(1), record(2)]).rows
    assert rows == [("val_top1", "50.00%", "50.00%", "2"), ("train_loss", "1", "1", "2")]


def unevaluated(epoch):
    """An epoch's line where --evaluate-every passed it over."""
    return {name: value for name, value in record(epoch).items() if not name.startswith("val_")}


def test_a_run_whose_newest_epoch_was_not_evaluated_is_judged_by_the_last_that_was():
    epochs = [unevaluated(1), record(2), unevaluated(3)]
    assert score_name(epochs) == "val_top1"
    table = metrics_table(epochs)
    assert table.title == "Metrics after epoch 3"
    assert table.rows == [("val_top1", "50.00% (epoch 2)", "50.00%", "2"), ("train_loss", "0.5", "0.5", "3")]
    assert score_name([unevaluated(1)]) is None


def test_the_headline_of_such_a_run_names_the_epoch_of_its_score(supervised):
    run = attrs.evolve(Run.open(supervised), records=(unevaluated(1), record(2), unevaluated(3)))
    material = Material(run)
    assert "Validation top-1 50.00% after epoch 2, the best of all evaluated epochs." in lead(material)
    assert material.classifies


def test_compared_runs_show_their_last_evaluations(supervised):
    run = Run.open(supervised)
    (table,) = compared.metrics(Material(attrs.evolve(run, records=(record(1), unevaluated(2))), [run]))
    assert ("val_top1", "25.00% (epoch 1)", "50.00%") in table.rows


@pytest.mark.parametrize(
    ("records", "wanted", "said"),
    [
        ([], 2, "No epoch is finished"),
        ([record(1)], 2, "it has 1 epoch of 2"),
        ([{"kind": "step", "step": 1, "skipped": 1}, record(2)], 2, "skipped"),
        ([record(2) | {"train_loss": None}], 2, "Not finite in the last epoch: train_loss"),
    ],
)
def test_what_went_wrong_is_warned_of(records, wanted, said):
    (found,) = warnings(records, wanted)
    assert said in found.text
    assert found.warning


def test_a_run_that_went_well_is_not_warned_of():
    assert warnings([record(1), record(2)], 2) == []
    assert warnings([record(2) | {"images_per_second": None}], 2) == []  # an epoch that took no time
    assert warnings([record(1)], None) == []


def test_the_course_of_a_run_is_the_sum_over_its_epochs():
    older = {"epoch": 1, "step": 4, "images": 32, "seconds": 10.0}
    newer = {"epoch": 2, "step": 8, "images": 32, "seconds": 6.0, "waited_seconds": 1.5, "evaluation_seconds": 5.0}
    assert course([older, newer]).rows == [
        ("epochs", 2), ("steps", 8), ("images seen", 64), ("training time", "16.0 s"), ("images per second", "4"),
        ("waiting for data", "25.0% of it"), ("evaluation time", "5.0 s"),
    ]  # fmt: skip
    assert [name for name, _ in course([older | {"seconds": 0.0}]).rows] == [
        "epochs", "steps", "images seen", "training time", "evaluation time"]  # fmt: skip


def test_mistakes_and_right_answers_are_ordered_by_their_loss():
    logits = torch.tensor([[5.0, 0.0], [0.0, 9.0], [1.0, 0.0], [3.0, 0.0]])
    found = type("Answers", (), {"values": logits, "labels": torch.tensor([0, 0, 0, 1])})
    assert by_loss(found, right=True).tolist() == [0, 2]
    assert by_loss(found, right=False).tolist() == [3, 1]


def test_an_image_is_told_with_its_class_what_it_is_taken_for_and_how_surely():
    logits = (torch.eye(4)[[1, 0, 3]] * 2 + 1).log()  # 3 to 1 for the choice
    images = type("Images", (), {"classes": ("cat", "dog", "owl")})
    found = type("Answers", (), {"values": logits, "labels": torch.tensor([0, 0, 1]), "images": images})
    assert said(found, torch.tensor([1, 0, 2])) == ["cat\n50.0%", "cat, not dog\n50.0%", "dog, not output 3\n50.0%"]


def test_pairs_of_classes_are_told_by_how_often_they_are_confused():
    counts = torch.tensor([[9, 1, 0], [0, 9, 3], [1, 0, 9]])
    assert confused(counts) == [(1, 2, 3), (0, 1, 1), (2, 0, 1)]


def test_values_are_told_as_people_read_them():
    assert [shown(v) for v in (None, True, 1234567, 0.1 + 0.2, (1, 2), [], "a")] == [
        "none", "yes", "1,234,567", "0.3", "1, 2", "none", "a"]  # fmt: skip
    assert [metric("val_top1", 0.98765), metric("val_loss", 0.123456), metric("lr", 1.23e-5), metric("x", None)] == [
        "98.77%", "0.1235", "1.23e-05", "not finite"]  # fmt: skip
    assert [metric("loss", 12345.678), metric("count", 12345)] == ["12345.7", "12,345"]
    assert [duration(s) for s in (1.234, 65, 3700)] == ["1.2 s", "1 min 5 s", "1 h 1 min"]
    assert [duration(s) for s in (59.94, 59.96, 119.6)] == ["59.9 s", "1 min 0 s", "2 min 0 s"]
    assert [counted(1, "query"), counted(2000, "query"), counted(0, "epoch")] == [
        "1 query",
        "2,000 queries",
        "0 epochs",
    ]
    assert [spoken(n) for n in ("val_top1", "teacher_knn20")] == ["validation top-1", "teacher k-NN (k = 20)"]
