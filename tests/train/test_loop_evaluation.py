"""Evaluation in the loop: what it may be, when it comes, and the best epoch by it."""

import numpy as np
import pytest
import torch

from blocks import trunk_from_module
from blocks.data import EvalTransform, PictureLoader
from blocks.objectives.supervised import Supervised
from blocks.runs import checkpoint
from blocks.train.distributed import Processes
from tests.interop.modules import small
from tests.train.tiny import ValData, ask_to_stop, spoilt, train


def test_the_best_epoch_s_checkpoint_stays_through_a_stop_and_a_resume(tmp_path, capsys):
    scores = iter((0.3, 0.9, 0.5, 0.4))
    knobs = {"evaluate": lambda params: {"score": next(scores)}, "ema_decay": None, "best": "val_score"}
    train(tmp_path, train_data=ask_to_stop(7), **knobs)
    train(tmp_path, **knobs)
    leaves, _ = checkpoint.read(tmp_path / "best.pt")
    assert int(leaves["step"]) == 6
    assert list(checkpoint.steps(tmp_path)) == [9, 12]
    assert "best.pt" in capsys.readouterr().out


def test_a_best_epoch_that_ends_in_a_skipped_step_is_kept_too(tmp_path):
    """No checkpoint begins again in a broken stretch, but these params were the best."""
    scores = iter((0.3, 0.9, 0.5, 0.4))
    train(
        tmp_path, train_data=spoilt(5), evaluate=lambda params: {"score": next(scores)}, ema_decay=None,
        best="val_score", keep=9,
    )  # fmt: skip
    assert list(checkpoint.steps(tmp_path)) == [3, 9, 12]
    leaves, about = checkpoint.read(tmp_path / "best.pt")
    assert int(leaves["step"]) == 6
    assert about.keys() == checkpoint.read(checkpoint.path(tmp_path, 9))[1].keys()


def test_pictures_without_labels_are_refused_before_the_first_step(tmp_path):
    pictures = PictureLoader([tmp_path / "a.png"], batch_size=2, transform=EvalTransform(8))
    with pytest.raises(ValueError, match="val_data has no labels for an accuracy; give evaluate="):
        train(tmp_path, val_data=pictures)


def test_a_best_epoch_whose_newer_checkpoints_were_deleted_is_not_begun_over(tmp_path):
    train(tmp_path, val_data=ValData(), best="val_top1")
    for path in checkpoint.steps(tmp_path).values():
        path.unlink()
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"best\.pt is a run's best epoch.* Give another output folder"):
        train(tmp_path, val_data=ValData(), best="val_top1")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == left
    (tmp_path / "best.pt").unlink()
    assert train(tmp_path, val_data=ValData(), best="val_top1").finished


def test_evaluation_may_come_every_few_epochs_and_comes_after_the_last(tmp_path, straight):
    result = train(tmp_path, epochs=5, val_data=ValData(), evaluate_every=2, best="val_top1")
    assert [record["epoch"] for record in result.history if "val_top1" in record] == [2, 4, 5]
    assert all("train_loss" in record and "evaluation_seconds" in record for record in result.history)
    assert (tmp_path / "best.pt").is_file()


def test_a_metric_that_no_evaluation_has_ends_the_run_with_its_epoch_saved(tmp_path):
    with pytest.raises(ValueError, match=r"best val_topp1 is no metric of the evaluations; there are val_top1.*ema_"):
        train(tmp_path, val_data=ValData(), best="val_topp1")
    assert list(checkpoint.steps(tmp_path)) == [3]
    assert train(tmp_path, val_data=ValData(), best="val_top1").finished


def test_a_best_epoch_of_a_run_without_evaluation_is_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match="best val_top1: this run evaluates nothing"):
        train(tmp_path, best="val_top1", val_data=None)
    assert not list(tmp_path.iterdir())


def test_a_best_epoch_that_was_not_kept_is_not_in_the_table(tmp_path, capsys):
    train(tmp_path, epochs=1, val_data=ValData())
    assert train(tmp_path, epochs=1, val_data=ValData(), best="val_top1").finished
    assert "best.pt" not in capsys.readouterr().out


def test_an_own_evaluation_takes_the_place_of_the_accuracy(tmp_path):
    result = train(tmp_path, epochs=1, evaluate=lambda params: {"norm": float(params["head"]["weight"].norm())})
    assert result.history[0].keys() >= {"val_norm", "ema_norm"}


@pytest.mark.parametrize("of", [torch.tensor, np.float32])
def test_an_own_evaluation_may_give_tensors_and_numpy_s_numbers(tmp_path, of):
    result = train(tmp_path, epochs=1, evaluate=lambda params: {"norm": of(0.5)})
    assert repr(result.history[0]["val_norm"]) == "0.5"


@pytest.mark.parametrize("value", [None, torch.ones(2), "high"])
def test_what_an_own_evaluation_gives_and_is_no_number_is_named(tmp_path, value):
    with pytest.raises(TypeError, match=r"evaluate gave norm .*, no number"):
        train(tmp_path, epochs=1, evaluate=lambda params: {"norm": value})


def test_batch_norm_that_would_wait_for_another_process_in_evaluation_is_refused_at_once(tmp_path):
    objective, two = Supervised(trunk_from_module(small(), 4)), Processes(0, 2, 0)
    with pytest.raises(ValueError, match=r"batch norm of the Model .* in one process"):
        train(tmp_path / "two", objective=objective, processes=two, val_data=ValData(two))
    assert not (tmp_path / "two").exists()


def test_an_objective_without_a_model_needs_an_own_evaluation(tmp_path):
    class Bare:
        pass

    with pytest.raises(ValueError, match=r"Bare has no `model`.*evaluate="):
        train(tmp_path, objective=Bare(), val_data=ValData())
