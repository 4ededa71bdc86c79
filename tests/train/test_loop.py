"""The loop in one process: what it tells, when it stops, and that it goes on exactly."""

import json
import math
import os
import signal
import sys
from typing import ClassVar

import attrs
import pytest
import torch

from blocks import random, tree, trunk_from_module
from blocks.objectives.supervised import Supervised
from blocks.optim.clip import ClipValue
from blocks.optim.schedule import linear
from blocks.runs import checkpoint
from blocks.runs.records import read
from blocks.train.distributed import Processes
from tests.interop.modules import small
from tests.train.tiny import IMAGES, Classifier, Remembering, TrainData, ValData, numbers, train


@pytest.fixture(autouse=True, scope="module")
def _no_tensorboard():
    """It takes seconds to import and has its own test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch.utils.tensorboard", None)
        yield


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The uninterrupted run's result."""
    return train(tmp_path_factory.mktemp("straight"), val_data=ValData())


def assert_same(a, b):
    a, b = tree.flatten(a), tree.flatten(b)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def ask_to_stop(at, number=signal.SIGTERM):
    """Images of step `at` come with a signal to this process."""

    def poison(step, images):
        if step == at:
            os.kill(os.getpid(), number)
        return images

    return TrainData(poison=poison)


def spoilt(*steps):
    """The images of some steps are NaN."""
    return TrainData(poison=lambda step, images: images * (math.nan if step in steps else 1.0))


def test_a_run_counts_logs_and_evaluates_every_epoch(tmp_path):
    result = train(tmp_path, val_data=ValData())
    assert result.finished
    assert int(result.state.step) == 12
    assert int(result.state.memory["seen"]) == 12
    records = read(tmp_path / "metrics.jsonl")
    assert [r["step"] for r in records if r["kind"] == "step"] == list(range(1, 13))
    epochs = [r for r in records if r["kind"] == "epoch"]
    assert epochs == result.history
    assert [(r["epoch"], r["step"], r["images"]) for r in epochs] == [(e, 3 * e, IMAGES) for e in (1, 2, 3, 4)]
    mean = sum(r["loss"] for r in records if r["kind"] == "step" and r["step"] > 9) / 3
    assert epochs[-1]["train_loss"] == pytest.approx(mean, rel=1e-12)
    assert epochs[-1]["val_images"] == 10
    assert epochs[-1]["val_loss"] != epochs[-1]["ema_loss"]


def test_a_run_ends_its_data_stream_and_gives_the_signal_handlers_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    data = TrainData()
    train(tmp_path, epochs=1, train_data=data)
    assert data.closed
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("at", [4, 5], ids=["in mid-epoch", "at an epoch's end"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_was_asked_to_stop_goes_on_to_the_same_state(tmp_path, capsys, straight, at, number):
    result = train(tmp_path, train_data=ask_to_stop(at, number), val_data=ValData())
    assert not result.finished
    assert checkpoint.latest(tmp_path).name == f"step-{at + 1:08d}.pt"
    assert f"stopped after step {at + 1} of 12" in capsys.readouterr().out
    resumed = train(tmp_path, val_data=ValData())
    assert_same(resumed.state, straight.state)
    assert numbers(resumed.history) == numbers(straight.history)
    steps = [r["step"] for r in read(tmp_path / "metrics.jsonl") if r["kind"] == "step"]
    assert steps == list(range(1, 13))


def test_a_run_that_broke_after_an_epoch_it_had_told_counts_the_next_one_alone(tmp_path, straight):
    def breaking(step, images):
        if step == 6:
            raise OSError("the disk is gone")
        return images

    with pytest.raises(OSError, match="disk"):
        train(tmp_path, train_data=TrainData(poison=breaking), val_data=ValData())
    assert checkpoint.latest(tmp_path).name == "step-00000006.pt"
    resumed = train(tmp_path, val_data=ValData())
    assert numbers(resumed.history) == numbers(straight.history)


def test_an_interrupted_run_with_frozen_params_a_clip_and_a_scheduled_average_goes_on_to_the_same_state(tmp_path):
    start = Classifier().init(random.key(40))
    knobs = {"frozen": ["*.weight"], "clip": ClipValue(0.01), "clip_norm": None, "ema_decay": linear(0.5, 0.9, 12)}
    whole = train(tmp_path / "whole", params=start, **knobs)
    assert torch.equal(whole.state.params["head"]["weight"], start["head"]["weight"])
    assert not torch.equal(whole.state.params["head"]["bias"], start["head"]["bias"])
    assert "train_ema_decay" not in whole.history[0]
    assert not train(tmp_path / "cut", train_data=ask_to_stop(4), params=start, **knobs).finished
    assert_same(train(tmp_path / "cut", params=start, **knobs).state, whole.state)


def test_a_finished_run_says_so_and_shows_its_table_again(tmp_path, capsys, straight):
    train(tmp_path, val_data=ValData())
    capsys.readouterr()
    again = train(tmp_path, val_data=ValData())
    text = capsys.readouterr().out
    assert again.finished
    assert_same(again.state, straight.state)
    assert "finished" in text
    assert "best" in text
    assert "step-00000012.pt" in text
    assert "epoch   1" not in text


def test_without_a_terminal_there_is_one_line_an_epoch_and_a_table(tmp_path, capsys):
    train(tmp_path, val_data=ValData())
    lines = capsys.readouterr().out.splitlines()
    assert [line[:9] for line in lines if line.startswith("epoch")] == [f"epoch   {e}" for e in (1, 2, 3, 4)]
    assert "val top-1" in lines[1]
    assert "EMA top-1" in lines[1]
    assert len(lines) < 20


def test_a_loss_that_is_not_finite_is_told_and_the_run_goes_on(tmp_path, capsys):
    result = train(tmp_path, train_data=spoilt(4), val_data=ValData())
    assert "step 5: loss nan" in capsys.readouterr().out
    assert result.finished
    assert int(result.state.memory["seen"]) == 11
    assert all(t.isfinite().all() for t in tree.flatten(result.state.params).values())
    assert math.isfinite(result.history[1]["train_loss"])
    json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[5], parse_constant=pytest.fail)  # no bare NaN


def test_too_many_losses_that_are_not_finite_stop_the_run_and_no_checkpoint_of_them_is_kept(tmp_path):
    with pytest.raises(FloatingPointError, match=r"stopped at step 7: loss nan.* 3 skipped updates in a row"):
        train(tmp_path, train_data=spoilt(*range(4, 12)), max_skipped=3, checkpoint_every_steps=1)
    assert list(checkpoint.steps(tmp_path)) == [3, 4]


def test_an_asked_stop_keeps_no_checkpoint_of_a_broken_stretch(tmp_path):
    data = ask_to_stop(4)
    poison = data.poison
    data.poison = lambda step, images: poison(step, images) * (math.nan if step == 4 else 1.0)
    train(tmp_path, train_data=data)
    assert list(checkpoint.steps(tmp_path)) == [3]


def test_checkpoints_come_every_epoch_and_every_n_steps(tmp_path):
    train(tmp_path, epochs=2, checkpoint_every_steps=2, keep=9)
    assert list(checkpoint.steps(tmp_path)) == [2, 3, 4, 6]


def test_the_best_epoch_s_checkpoint_stays_through_a_stop_and_a_resume(tmp_path, capsys):
    scores = iter((0.3, 0.9, 0.5, 0.4))
    knobs = {"evaluate": lambda params: {"score": next(scores)}, "ema_decay": None, "best": "val_score"}
    train(tmp_path, train_data=ask_to_stop(7), **knobs)
    train(tmp_path, **knobs)
    leaves, _ = checkpoint.read(tmp_path / "best.pt")
    assert int(leaves["step"]) == 6
    assert list(checkpoint.steps(tmp_path)) == [9, 12]
    assert "best.pt" in capsys.readouterr().out


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


def test_another_accumulate_is_refused_where_the_loss_compares_images_and_told_where_not(tmp_path, capsys):
    @attrs.frozen
    class Comparing(Remembering):
        compares_images: ClassVar[bool] = True

    train(tmp_path / "alone", epochs=1, settings={"accumulate": 1})
    train(tmp_path / "alone", epochs=1, settings={"accumulate": 2}, accumulate=2)
    assert "accumulate was 1, is 2" in capsys.readouterr().out
    comparing = Comparing(Classifier())
    train(tmp_path / "together", epochs=1, objective=comparing)
    with pytest.raises(ValueError, match="another run: accumulate was 1, is 2"):
        train(tmp_path / "together", epochs=1, objective=comparing, accumulate=2)


def test_another_batch_size_seed_or_setting_is_refused_with_both_values(tmp_path):
    train(tmp_path, epochs=1, settings={"lr": 0.1, "workers": 2, "scale": (0.1, 1.0)})
    other = TrainData(batch_size=4)
    with pytest.raises(
        ValueError, match=r"another run: seed was 3, is 4; batch_size was 8, is 4; .*; lr was 0.1, is 0.2\. "
    ):
        train(tmp_path, epochs=1, train_data=other, seed=4, settings={"lr": 0.2, "scale": (0.1, 1.0)})
    with pytest.raises(ValueError, match=r"steps_per_epoch was 3, is 6"):
        train(tmp_path, epochs=1, train_data=TrainData(num_samples=2 * IMAGES))


def test_another_place_and_number_of_workers_is_told_and_allowed(tmp_path, capsys):
    train(tmp_path, epochs=1, settings={"workers": 2, "scale": (0.1, 1.0)})
    train(tmp_path, epochs=1, settings={"workers": 8, "scale": (0.1, 1.0)})
    assert "workers was 2, is 8" in capsys.readouterr().out


def test_another_models_checkpoint_is_refused(tmp_path):
    train(tmp_path, epochs=1)
    with pytest.raises(ValueError, match=r"another model.*weight \[6, 48\] in the file, \[7, 48\] here"):
        train(tmp_path, epochs=1, objective=Remembering(Classifier(7)))


def test_a_run_without_resume_does_not_mix_with_another(tmp_path):
    train(tmp_path, epochs=1)
    with pytest.raises(ValueError, match=r"holds a run already, at step-00000003\.pt; go on from it with resume"):
        train(tmp_path, epochs=1, resume=False)


def test_unreadable_images_are_named_once(tmp_path, capsys):
    data = TrainData()
    data.skipped["shard-3.tar: cat.jpg"] = "truncated"
    train(tmp_path, epochs=2, train_data=data)
    assert capsys.readouterr().out.count("shard-3.tar: cat.jpg (truncated)") == 1


def test_an_own_evaluation_takes_the_place_of_the_accuracy(tmp_path):
    result = train(tmp_path, epochs=1, evaluate=lambda params: {"norm": float(params["head"]["weight"].norm())})
    assert result.history[0].keys() >= {"val_norm", "ema_norm"}


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


def test_counts_below_one_are_refused(tmp_path):
    with pytest.raises(ValueError, match="log_every 0"):
        train(tmp_path, log_every=0)


def test_facts_of_the_data_belong_to_the_run(tmp_path):
    """A shuffle window, say: with another one the rest of the run would see other samples."""
    data = ask_to_stop(4)
    data.facts = {"shuffle_window": 1000, "num_samples": IMAGES}
    assert not train(tmp_path, train_data=data).finished
    other = TrainData()
    other.facts = {"shuffle_window": None, "num_samples": IMAGES}
    with pytest.raises(ValueError, match="from another run: shuffle_window was 1000, is None"):
        train(tmp_path, train_data=other)
    other.facts = {"shuffle_window": 1000, "num_samples": IMAGES}
    assert train(tmp_path, train_data=other).finished


def test_too_many_unreadable_images_end_the_run(tmp_path):
    """As the loader says, of what all processes met; it is asked after every epoch."""
    data, asked = TrainData(), []
    data.skipped = {"a": "torn"}
    data.check_unreadable = lambda skipped: asked.append(dict(skipped)) if len(asked) < 2 else 1 / 0
    with pytest.raises(ZeroDivisionError):
        train(tmp_path, train_data=data)
    assert asked == [{"a": "torn"}] * 2


def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file/run cannot be written to"):
        train(tmp_path / "file" / "run")
