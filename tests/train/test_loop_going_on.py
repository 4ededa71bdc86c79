"""The loop goes on exactly where it stopped."""

import signal
from functools import partial

import pytest
import torch

from blocks import random
from blocks.optim.clip import ClipValue
from blocks.optim.schedule import linear
from blocks.runs import checkpoint
from blocks.runs.records import read
from blocks.train import loop
from blocks.train.readings import Readings
from tests.train.tiny import Classifier, TrainData, ValData, ask_to_stop, assert_same, numbers, train


@pytest.mark.parametrize("at", [4, 5, 11], ids=["in mid-epoch", "at an epoch's end", "in the last step"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_was_asked_to_stop_goes_on_to_the_same_state(tmp_path, capsys, straight, at, number):
    result = train(tmp_path, train_data=ask_to_stop(at, number), val_data=ValData())
    assert not result.finished
    assert len(result.history) == at // 3  # whoever asks for a stop does not wait for an evaluation
    assert checkpoint.latest(tmp_path).name == f"step-{at + 1:08d}.pt"
    assert f"stopped after step {at + 1} of 12" in capsys.readouterr().out
    resumed = train(tmp_path, val_data=ValData())
    assert_same(resumed.state, straight.state)
    assert numbers(resumed.history) == numbers(straight.history)
    steps = [r["step"] for r in read(tmp_path / "metrics.jsonl") if r["kind"] == "step"]
    assert steps == list(range(1, 13))


def test_metrics_that_are_read_late_are_in_time_for_an_epoch_and_a_stop(tmp_path, monkeypatch, straight):
    """As a GPU's are, which is some steps ahead: here one."""
    monkeypatch.setattr(loop, "Readings", partial(Readings, lag=1))
    assert not train(tmp_path, train_data=ask_to_stop(3), val_data=ValData()).finished
    assert checkpoint.latest(tmp_path).name == "step-00000005.pt"
    resumed = train(tmp_path, val_data=ValData())
    assert_same(resumed.state, straight.state)
    assert numbers(resumed.history) == numbers(straight.history)


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
